"""Words that say nothing of what a turn is about: by them a follow-up is told from a question.

`LIGHT` words are grammar, talk about the talk ("explain", "step", "shorter", "wrong") and names of
languages; `MARKS` among them point at something said before. They cover the languages that most
users write in. A short turn in another one has no word known here, and is scored with what was
said before it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Words of one language, as they are written down."""

    marks: str
    """That point at something said before, wherever they stand."""
    first: str
    """That do so as the first word, or the first two."""
    places: str
    """That do so before a plain word, as "last" in "the last step"."""
    plain: str
    """All else that says nothing of what a turn is about."""


_LANGUAGES = (
    Lists(  # English
        marks="""
        it its itself this these those them they he she his him her their above previous
        previously earlier again instead another else mentioned said same both either
        neither other others redo rewrite rephrase shorten proceed your yours
        """,
        first="""
        and or but so then also too now what_about how_about what_if next another continue
        expand elaborate
        """,
        places="""
        last first second third fourth fifth final top bottom
        """,
        plain="""
        that there you u former latter still anyway more less shorter longer simpler
        easier harder clearer better a an the of in on at to for from with by as into
        about than like over under out up down off i me my mine we us our is are was were
        be been being am do does did done doing have has had having can could will would
        shall should may might must let lets ll ve re d m s t don doesn didn isn aren wasn
        won couldn wouldn shouldn can't cannot not no nor never what why how who whom
        which when where whose if because since while whether all any some each every few
        many much most several only just very really quite even ever maybe perhaps please
        pls plz thanks thank thx ty hi hello hey ok okay k yes yep yeah yup sure fine nope
        nah great good nice cool perfect awesome exactly correct right true false wrong
        incorrect bad mistake mistakes error errors typo certain sorry hmm hm oh ah well
        wait hold go going goes gone went come keep kept try tried make made making get
        got getting give gave given take took put turn use used using want wanted need
        needed mean means meant think thought know knew understand understood see saw look
        looks looked say saying tell told show showed explain explained explanation
        describe clarify justify repeat check checked double verify confirm review revise
        fix fixed change changed edit add added remove drop skip stop stopped start
        started finish finished complete end apply commit run ship send save pick choose
        prefer compare misread missed forget forgot ignore follow follows help works
        worked happen happens answer answers reply response result results output solution
        question questions problem task step steps part parts point points section
        paragraph paragraphs line lines sentence sentences word words thing things way
        ways example examples case cases option options choice alternative alternatives
        exception exceptions version reason reasons detail details list table bullet
        bullets summary summarize summarise translate translation format tone style formal
        informal simple simply short brief briefly concise long full slow slowly fast
        different differently difference one ones two three four five six seven eight nine
        ten number numbers half twice whole entire middle english french german spanish
        italian portuguese russian chinese japanese korean arabic hindi dutch polish
        turkish language terms walk through sound sounds looking seem seems feel sense
        enough little bit source sources cite approach approaches side kind sort type idea
        ideas handle specific technical funny funnier casual lgtm tldr tl dr confident
        confidence matter matters disagree agree agreed back undo rest remaining
        everything something anything nothing someone otherwise later bye welcome okey
        alright absolutely definitely obviously clearly actually honestly literally
        basically whatever
        """,
    ),
    Lists(  # German
        marks="""
        dies diese dieser dieses diesem diesen es sie er ihm ihnen dein deine deinen
        deiner nochmal noch vorherige vorherigen obige obigen oben davon dazu darin dabei
        damit daraus stattdessen dort solche anders andere anderen anderes
        """,
        first="""
        und oder aber dann auch jetzt nun weiter was_ist was_gilt
        """,
        places="""
        letzte letzten letzter letztes zweite zweiten zweiter zweites dritte dritten
        dritter drittes erste ersten erster erstes
        """,
        plain="""
        das ihr ihre ihrem du dir dich weiteres kürzer länger einfacher besser genauer
        mehr weniger statt ein eine einen einem einer der die den dem des ich mich mir wir
        uns ist sind war waren sein bin bist hat haben habe hast wird werden kann kannst
        können könntest könnte soll sollte muss musst magst möchte will nicht kein keine
        was warum wieso weshalb wie wer wo wann welche welcher welches wenn weil ob in im
        an am auf aus bei mit von vom zu zum zur für über nach als nur bitte danke ja nein
        gut genau sicher okay falsch richtig fehler stimmt mal bisschen sehr ganz mach
        mache machen gib gibt sag sage sagen erkläre erklär erklären zeig schreib schreibe
        wiederhole prüfe prüf überprüfe korrigiere ändere übersetze fass fasse zusammen
        zusammenfassung verstehe meinst schritt schritte teil punkt satz sätze sätzen
        absatz zeile wort worten worte beispiel antwort frage lösung ergebnis version
        tabelle liste stichpunkte kurz deutsch englisch französisch spanisch italienisch
        sprache einmal los fort fahre
        """,
    ),
    Lists(  # French
        marks="""
        cela ça ceci cette ces celui celle ceux ton ta tes votre vos encore précédent
        précédente même mêmes reprends recommence
        """,
        first="""
        et ou mais alors aussi puis maintenant plutôt
        """,
        places="""
        dernier dernière deuxième troisième première premier
        """,
        plain="""
        ce il elle ils elles en y le la les tu vous autre autres plus moins un une des du
        de d l j c n m s qu à au aux dans sur sous par pour avec sans je me moi nous on
        est es sont suis êtes était être a ai as avons avez ont peux peut pouvez pourrais
        pourriez fais fait faire dois doit veux ne pas non oui qui que quoi comment
        pourquoi où quand quel quelle quels si parce comme seulement juste merci plaît
        plait te svp bonjour bien bon sûr d'accord parfait faux fausse vrai erreur étape
        partie point phrase phrases paragraphe ligne mot mots exemple réponse question
        solution résultat explique expliquer dis dire montre donne répète vérifie corrige
        change traduis traduire résume résumer continue continuer vas allez va court
        courte allemand anglais français espagnol italien langue tableau liste vers
        """,
    ),
    Lists(  # Spanish
        marks="""
        eso esto ese esa esos esas este estos estas ello él ella ellos tu tus sus otra
        otro otros otras anterior mismo misma hazlo
        """,
        first="""
        y o e pero entonces también ahora mejor qué_tal
        """,
        places="""
        último última segundo segunda tercero tercer tercera primero primer primera
        """,
        plain="""
        esta los lo su vez más menos ellas las el la un una unos unas del al en de con por
        para sin sobre entre yo mi me nos es son era ser estar está están estás estoy ha
        has he hay puede puedes podrías haz hacer haga no sí si qué que quién cómo cuándo
        dónde cuál cuáles porqué porque como solo sólo muy gracias favor hola bien bueno
        claro seguro segura vale perfecto mal falso verdad error correcto paso parte punto
        frase frases párrafo línea palabra palabras ejemplo respuesta pregunta solución
        resultado explica explicar explícame di decir dime muestra da dame repite repítelo
        revisa corrige corrígelo cambia traduce resume resumir continúa continua sigue
        seguir adelante corto corta inglés francés alemán español idioma tabla lista nuevo
        """,
    ),
    Lists(  # Italian
        marks="""
        questo questa questi queste quello quella ciò suo sua tuo tua ancora altro altra
        altri altre precedente stesso stessa rifallo
        """,
        first="""
        e o ma allora anche poi ora adesso
        """,
        places="""
        ultimo ultima secondo seconda terzo terza primo prima
        """,
        plain="""
        lo più meno il gli i un uno una dei delle di del della in nel con per da su tra
        fra io mi noi è sono sei era essere ha hai ho può puoi potresti fai fare fallo non
        no sì si che chi cosa come quando dove quale perché se solo molto grazie favore
        ciao bene buono certo sicuro sicura perfetto sbagliato sbagliata errore giusto
        corretto rifai passo passaggio parte punto frase paragrafo riga parola parole
        esempio risposta domanda soluzione risultato spiega spiegare spiegami dimmi mostra
        dammi ripeti controlla correggi cambia traduci riassumi continua continuare avanti
        vai breve inglese francese tedesco italiano spagnolo lingua tabella lista
        """,
    ),
    Lists(  # Portuguese
        marks="""
        isso isto esse essa esses essas este aquilo ele ela seu sua teu tua outro outra
        outros outras novo anterior mesmo mesma
        """,
        first="""
        e ou mas então também agora
        """,
        places="""
        último última segundo segunda terceiro terceira primeiro primeira
        """,
        plain="""
        esta mais menos o os a as um uma do da dos das no na em de com por para sem sobre
        eu me nós é são era ser está estão tem tenho há pode podes poderia faça faz fazer
        não sim se que quem como quando onde qual quê porque só muito obrigado obrigada
        favor olá bem bom certo certeza claro perfeito errado errada erro correto passo
        parte ponto frase parágrafo linha palavra exemplo resposta pergunta solução
        resultado explique explica explicar diga mostre dê repita verifique corrija mude
        traduza resuma continue continuar continua segue curto inglês francês alemão
        português língua tabela lista vez
        """,
    ),
    Lists(  # Dutch
        marks="""
        dit deze hij zij jouw je uw opnieuw ander andere anders vorige hetzelfde
        """,
        first="""
        en of maar dan ook nu nog verder
        """,
        places="""
        laatste tweede derde eerste
        """,
        plain="""
        die dat het zelfde meer minder korter langer een de van in op aan te voor met door
        als naar over ik mij wij ons is zijn was bent ben heeft heb kan kun kunt zou moet
        wil niet geen ja nee wat waarom hoe wie waar wanneer welke omdat alleen heel
        alsjeblieft graag bedankt dank goed zeker fout klopt juist doe doen maak geef zeg
        leg uit uitleggen toon herhaal controleer verbeter verander vertaal vat samen stap
        deel punt zin alinea regel woord voorbeeld antwoord vraag oplossing resultaat ga
        engels frans duits nederlands kort
        """,
    ),
    Lists(  # Russian
        marks="""
        это этот эта эти этого этой этом тот та те он она оно они его её их твой ваш ещё
        еще снова опять заново другой другая другое другие предыдущий
        """,
        first="""
        и или но а тогда тоже также теперь дальше
        """,
        places="""
        последний последнее последняя второй вторая третий третья первый первая
        """,
        plain="""
        ты вы больше меньше короче длиннее проще лучше же в во на к по из с со у о об от
        до для за при под над я мне меня мы нас мой не нет да ни есть был быть может
        можешь можете мог нужно надо что почему зачем как кто где когда какой какая какие
        если потому только очень пожалуйста спасибо привет хорошо ладно верно правильно
        неправильно ошибка точно уверен уверена сделай делай переделай исправь измени
        объясни поясни расскажи скажи покажи дай повтори проверь переведи сократи
        продолжай продолжи давай шаг шага часть пункт предложение абзац строка слово слова
        пример ответ вопрос решение результат по-английски по-русски английский английском
        русском языке язык таблица список
        """,
    ),
    Lists(  # Polish
        marks="""
        to ten ta te tego tej tym ona ono oni jego jej ich twój jeszcze ponownie inny inna
        inne poprzedni
        """,
        first="""
        i lub ale więc też także teraz dalej a
        """,
        places="""
        ostatni ostatnia drugi druga trzeci trzecia pierwszy pierwsza
        """,
        plain="""
        ty wy raz więcej bardziej mniej krócej on w na do z ze od po dla za przy przez o
        ja mnie my nas nie tak jest są był być może możesz mógłbyś co dlaczego czemu jak
        kto gdzie kiedy który która które jeśli bo tylko bardzo proszę dzięki dobrze źle
        pewien pewna pewny błąd zrób zmień popraw wyjaśnij powiedz pokaż daj powtórz
        sprawdź przetłumacz skróć kontynuuj krok kroku część punkt zdanie akapit słowo
        przykład odpowiedź pytanie angielsku
        """,
    ),
    Lists(  # Turkish
        marks="""
        bu şu onu bunu bunlar şunlar onlar tekrar yine başka önceki
        """,
        first="""
        ve veya ama sonra şimdi peki
        """,
        places="""
        son ikinci üçüncü birinci
        """,
        plain="""
        o sen siz da de daha az kısa bir ile için gibi ben biz mi mı mu mü değil evet
        hayır tamam ne neden niye nasıl kim nerede hangi lütfen teşekkürler yanlış doğru
        hata emin misin yap yapın düzelt değiştir açıkla anlat söyle göster ver kontrol et
        çevir özetle devam adım bölüm cümle örnek cevap soru ingilizce
        """,
    ),
    Lists(  # Vietnamese
        marks="""
        đó này kia nó họ lại nữa khác
        """,
        first="""
        và hoặc nhưng rồi còn thế
        """,
        places="""
        cuối
        """,
        plain="""
        bạn cũng tiếp trước hơn là của trong với cho tôi không có vâng dạ được sai đúng
        làm đi giải thích bước tại sao vì nào tục hãy
        """,
    ),
    Lists(  # Indonesian
        marks="""
        itu ini dia mereka lagi sebelumnya
        """,
        first="""
        dan atau tapi lalu sekarang
        """,
        places="""
        terakhir kedua ketiga pertama
        """,
        plain="""
        kamu anda juga lain lebih yang di ke dari untuk dengan saya kami tidak bukan ya
        oke baik salah benar apa mengapa kenapa bagaimana tolong terima kasih lanjutkan
        teruskan jelaskan ulangi perbaiki langkah contoh
        """,
    ),
    Lists(  # Arabic
        marks="""
        هذا هذه ذلك تلك هو هي هم أيضا أخرى السابق مرة
        """,
        first="""
        و أو لكن ثم الآن وماذا
        """,
        places="""
        الأخير الأخيرة الثاني الثانية الثالث الثالثة الأول
        """,
        plain="""
        أنت آخر أكثر أقل في من إلى على عن مع أن لا نعم ما ماذا لماذا كيف متى أين هل أنا
        نحن لي خطأ صحيح حسنا شكرا فضلك أعد اشرح استمر تابع كرر ترجم لخص المحاولة الخطوة
        خطوة بالإنجليزية متأكد جيد
        """,
    ),
    Lists(  # Hindi
        marks="""
        यह ये वह वे इस उस इसे उसे इसको उसको फिर दोबारा
        """,
        first="""
        और या लेकिन अब
        """,
        places="""
        आखिरी दूसरा दूसरी तीसरा तीसरी पहला
        """,
        plain="""
        तुम आप भी पिछला अगला ज्यादा में से को का की के पर है हैं था मैं हम नहीं हाँ हां
        क्या क्यों कैसे कौन कब कहाँ गलत सही ठीक धन्यवाद कृपया करो करें समझाओ बताओ जारी रखो
        रखें कदम उदाहरण अंग्रेजी
        """,
    ),
)

_KOREAN = """
이 그 저 이것 그것 저것 이걸 그걸 다시 더 또 계속 그리고 그럼 그러면 위 앞 마지막 다른 좀 한번
다음 이어 이전 네 예 응 아니 아니요 좋아 좋습니다 맞아 맞습니다 틀렸 틀린 잘못 확실 정말 왜 어떻게
무엇 뭐 무슨 어느 언제 어디 설명 해 해줘 해주 주세요 줘 요약 번역 짧게 길게 간단 자세 고쳐 수정
바꿔 예시 예를 단계 부분 문장 답 답변 질문 방법 영어 한국어 일본어 중국어 프랑스어 독일어 스페인어
로 으로 감사 부탁 진행 말해 알려 써 하나 첫 두 세 번째
"""

_UNSPACED = """
不对 不是 错了 错误 有误 请 重新 再 做 一遍 一次 一下 好的 好 可以 是的 是 对 行 嗯 谢谢 继续 接着
然后 还有 那么 那 这个 那个 这 它 你 您 我 我们 上面 前面 刚才 之前 最后 下一 下面 解释 说明 说 讲
告诉 第 步 一 二 三 四 五 六 两 几 个 句 段 部分 点 用 英文 英语 中文 法语 德语 日语 翻译 成
为什么 怎么 如何 什么 哪 吗 呢 吧 的 了 能 不能 能不能 会 要 想 确定 简短 简单 详细 短 长 更 多 少
一点 例子 举 例 另 另外 其他 别的 答案 回答 问题 结果 方法 总结 概括 检查 改 修改 换 给 把 和 与
或 在 到 从 也 都 就 才 很 太 没有 没 有 不 同样 一样 相同 步骤 原因 意思 明白 懂 列表 表格 重写
重做 写 間違 違 正 直 続 次 前 後 上 下 今 最後 最初 二番目 三番目 番目 番 英語 日本語 中国語 仏語
独語 説明 教 言 話 何故 何 本当 長 簡単 詳 別 他 答 質問 問題 結果 要約 翻訳 確認 修正 変 願 一度
分 文 段落 手順 理由 意味 表 ステップ リスト もう もっと もう一度 フランス ドイツ スペイン 語 お
部 同 書 見 大丈夫 了解 有難 頼 進
"""

_DENIALS = """
no not nope nah never don wrong incorrect false stop nein nicht falsch non pas faux faut ne mal
falso não errado sbagliato niet nee fout нет не неправильно nie źle hayır yanlış không sai tidak
bukan salah لا خطأ नहीं गलत
"""

_ASKING = """
what whats who whom whose when where which why how was wer wann wo welche welcher welches warum
wie wieviel qui quand où quel quelle quels quelles combien comment pourquoi qué quién cuándo dónde
cuál cómo cuánto cuántos chi cosa quando dove quale quanto quanti perché come quem onde qual por
wat waar wanneer welke hoeveel hoe waarom что кто где когда какой какая какие сколько почему как
kto gdzie kiedy który ile dlaczego ما من متى أين كيف لماذا كم क्या कौन कब कहाँ कितने क्यों कैसे
"""

_QUOTES = str.maketrans({"’": "'", "`": "'", "´": "'"})


def folded(text: str) -> str:
    """Write a text in small letters without accents, as words are compared.

    Vowel signs of Indic scripts go too: a pattern of words does not take them for parts of one.
    """
    if text.isascii():
        return text.casefold()
    apart = unicodedata.normalize("NFD", text.translate(_QUOTES).casefold())
    bare = "".join(c for c in apart if unicodedata.category(c) not in ("Mn", "Mc"))
    return unicodedata.normalize("NFC", bare)


def _words(*lists: str) -> frozenset[str]:
    return frozenset(word for each in lists for word in folded(each).split())


@dataclass(frozen=True)
class Language:
    """Folded words of one language."""

    marks: frozenset[str]
    """That point at something said before, wherever they stand."""
    first: frozenset[str]
    """That do so as the first word, or the first two with `_` between."""
    places: frozenset[str]
    """That do so before a light word."""
    light: frozenset[str]
    """All that say nothing of what a turn is about, these among them."""

    def points(self, word: str, following: str) -> bool:
        """Tell whether a word points at something said before."""
        return word in self.marks or (word in self.places and following in self.light)


def _language(lists: Lists) -> Language:
    marks, first, places = map(_words, (lists.marks, lists.first, lists.places))
    return Language(marks, first, places, marks | first | places | _words(lists.plain))


LANGUAGES = tuple(map(_language, _LANGUAGES))
"""English first: it is meant where a word stands in several."""
KOREAN = tuple(word for word in _words(_KOREAN) if len(word) > 1)
"""Folded beginnings of such Korean words."""
KOREAN_WORDS = _words(_KOREAN)
"""The same, the short ones among them, which are words by themselves."""
UNSPACED = re.compile(
    "|".join(re.escape(each) for each in sorted(_words(_UNSPACED), key=len, reverse=True))
)
"""Finds such Chinese and Japanese words."""
DENIALS = _words(_DENIALS)
"""Folded words by which a turn is no yes."""
ASKING = _words(_ASKING)
"""Folded words that questions begin with."""
