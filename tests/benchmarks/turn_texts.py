"""Short follow-ups of several kinds and languages, for dialogues built from any data set.

Choices are made on the half in `TUNED`; what is reported comes from the other half.
"""

from __future__ import annotations

_BY_KIND = {
    "correction": """
        That is wrong, redo it.
        that is wrong, the third step does not follow. Redo it.
        Are you sure?
        No, that can't be right.
        I think you made a mistake in the second part.
        Check your work again.
        This doesn't look correct to me, could you double-check the result?
        wrong
        Hmm, I got a different answer. Which one is right?
        You misread the question.
    """,
    "approval": """
        yes
        Yes, please.
        ok do it
        go ahead
        sure, sounds good
        commit it
        Perfect, thanks! Please proceed.
        yep
    """,
    "continuing": """
        continue
        go on
        and then?
        keep going please
        Finish it.
        next
        You stopped in the middle of a sentence.
        more
    """,
    "explaining": """
        why?
        explain step 3
        How did you get that?
        Can you walk me through the last part more slowly?
        what do you mean by that
        I don't understand the second paragraph, can you explain it differently?
        Explain it like I'm five.
        What does the first line mean?
        and the last step?
        Which assumption did you use there?
    """,
    "reshaping": """
        make it shorter
        and in French?
        Now as a table, please.
        Summarize your answer in one sentence.
        Can you rewrite that in a more formal tone?
        give me only the final answer
        Translate this into German.
        same but with bullet points
        Say it again in simpler words
        turn it into a poem
    """,
    "varying": """
        give me another example
        what about the other options?
        Is there another way to do it?
        what if we double the first number?
        fix the bug you mentioned
        what about a workflow for this?
        Which of these would you pick?
        Could the second option also be true?
        are there any exceptions?
        compare it with the alternative
    """,
    "own words": """
        do the same for the second dataset
        now prove it by induction
        use Python instead of Java
        what happens if the temperature doubles?
        and how does inflation change that?
        Could you verify it with a numerical example?
        now for a company with 200 employees
        add some jokes about cats
        does this also hold for negative integers?
        what would a lawyer say about it?
        und was gilt für kleine Unternehmen?
        et pour les enfants de moins de dix ans ?
    """,
    "German": """
        Das ist falsch, mach es noch einmal.
        ja, bitte
        weiter
        Kannst du Schritt 3 genauer erklären?
        und auf Englisch?
        Bist du sicher?
        Warum?
        Fass das bitte in einem Satz zusammen.
    """,
    "French": """
        C'est faux, recommence.
        oui
        continue s'il te plaît
        Explique la troisième étape.
        et en anglais ?
        Tu es sûr ?
        Pourquoi ?
        Plus court, s'il vous plaît.
    """,
    "Spanish": """
        Eso está mal, hazlo de nuevo.
        sí, adelante
        sigue
        ¿Puedes explicar el paso 3?
        ¿y en francés?
        ¿Estás seguro?
        ¿por qué?
        dame otro ejemplo
    """,
    "Chinese": """
        不对，请重新做一遍。
        好的
        继续
        解释一下第三步
        用英文再说一遍
        你确定吗？
        为什么？
        能不能简短一点？
    """,
    "Japanese": """
        それは間違っています。やり直してください。
        はい
        続けて
        ステップ3を説明して
        英語でお願いします
        本当ですか？
        なぜ？
        もっと短くしてください
    """,
    "Korean": """
        틀렸어요, 다시 해 주세요.
        네
        계속해
        3단계를 설명해줘
        영어로는?
        확실해요?
        왜?
        더 짧게 해줘
    """,
    "others": """
        Это неправильно, переделай.
        да
        продолжай
        Почему?
        Isso está errado, faça de novo.
        sim, pode continuar
        È sbagliato, rifallo.
        Perché?
        هذا خطأ، أعد المحاولة
        نعم
        यह गलत है, फिर से करो
        Dat klopt niet, doe het opnieuw.
        To jest źle, popraw to.
        Bu yanlış, tekrar yap.
        Sai rồi, làm lại đi.
        devam et
    """,
}

FOLLOW_UPS: tuple[tuple[str, str], ...] = tuple(
    (kind, line.strip()) for kind, lines in _BY_KIND.items() for line in lines.strip().splitlines()
)
"""Each follow-up with its kind."""
TUNED = FOLLOW_UPS[::2]
"""The half that choices were made on."""
REPORTED = FOLLOW_UPS[1::2]
"""The half that is reported."""
ANSWER = "Here is what I found. Let me know if something is unclear."
"""What stands for an answer where a data set has no responses."""
