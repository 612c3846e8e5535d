"""Answers and their validity class, written from the issue alone by one who had not read the checks.

At first sight 153 of 159 had their class.
A row is (expected, text, question, changes); several classes that would all be true are separated by a bar.
"""

from typing import Any

Row = tuple[str, str, str, dict[str, Any]]

SYSTEM = (
    "You are a research assistant for a collection of scientific articles. Use only the excerpts below. Name the "
    "article that supports each statement. Reply in full sentences and do not use bullet points. When the excerpts "
    "do not hold the answer, say that it is not in the articles."
)
PASSAGES = (
    (
        "Sparse Routing for Speech Encoders",
        "We insert a routing layer after every third block of the encoder. The router scores 16 experts and keeps "
        "the best two for each frame. Training used 8 V100 cards for 5 days. On the noisy test set the word error "
        "rate fell from 9.4% to 7.8%, while the clean set did not change. An ablation with a single expert loses "
        "most of the gain, which suggests that the mixture, and not the extra width, matters.",
    ),
    (
        "Chat Formats and Their Failures",
        "Many open models mark the turns of a talk with special tokens such as <|im_start|> and <|im_end|>, or with "
        "[INST] and [/INST]. If a server does not stop at <|im_end|>, the model goes on and writes the next user "
        "turn itself. Reasoning models put their thoughts between <think> and </think>.",
    ),
)
ROUTER = "How many experts does the router keep for each frame?"
WER = "What word error rate does the routed model reach on the noisy set?"
HARD = "Which hardware was used for training?"
FORMAT = "Which tokens mark the turns in chat formats?"
STOP = "What happens if a server does not stop at <|im_end|>?"
YN = "Does the clean test set change?"
WHY = "Why does the mixture matter rather than the width?"
CUT: dict[str, Any] = {"done_reason": "length", "answer_tokens": 160}
NO: dict[str, Any] = {}
GOOD = "The router keeps the best two of its 16 experts for each frame."

SHORT: tuple[Row, ...] = (
    ("ok", "Two", ROUTER, NO),
    ("ok", "two experts", ROUTER, NO),
    ("ok", "2.", ROUTER, NO),
    ("ok", "The best 2", ROUTER, NO),
    ("ok", "**2**", ROUTER, NO),
    ("ok", "`2`", ROUTER, NO),
    ("ok", "7.8%", WER, NO),
    ("ok", "7.8 percent", WER, NO),
    ("ok", "a WER of 7.8 %", WER, NO),
    ("ok", "$7.8\\%$", WER, NO),
    ("ok", "\\boxed{7.8}", WER, NO),
    ("ok", "Eight V100s", HARD, NO),
    ("ok", "8× V100", HARD, NO),
    ("ok", "NVIDIA V100 GPUs", HARD, NO),
    ("ok", "V100", HARD, NO),
    ("ok", "No", YN, NO),
    ("ok", "It does not.", YN, NO),
    ("ok", "Nope, unchanged.", YN, NO),
    ("ok", "the router", "Which component scores the experts?", NO),
    ("ok", "After every third block", "Where is the routing layer inserted?", NO),
    ("ok", "Five days", "How long did training take?", NO),
    ("ok", "-0.3", "Which correlation do they report?", NO),
    ("ok", "α = 0.1", "Which learning rate do they use?", NO),
    ("ok", "O(n log n)", "What is the complexity?", NO),
    ("ok", "Zwei", "Wie viele Experten behält der Router?", NO),
    ("ok", "两个", "路由器为每一帧保留多少个专家？", NO),
    ("ok", "2つ", "ルーターは各フレームにいくつのエキスパートを残しますか。", NO),
    ("ok", "두 개", "라우터는 프레임마다 몇 개의 전문가를 유지합니까?", NO),
    ("ok", "Not stated.", HARD, NO),
    ("ok", "Unknown", HARD, NO),
    ("ok", "Unknown.", HARD, NO),
    ("ok", "Jack Smith et al.", "Who proposed sparse routing?", NO),
    ("ok", "Sparse Routing for Speech Encoders", "Which article introduces the router?", NO),
    ("empty", "   ", ROUTER, NO),
    ("empty", "\n\n\n", ROUTER, NO),
    ("empty|too_short", "...", ROUTER, NO),
    ("empty|too_short", "**", ROUTER, NO),
    ("empty|too_short", "```\n```", ROUTER, NO),
    ("too_short|truncated", "The router keeps the", ROUTER, NO),
    ("too_short|truncated", "The number of experts is", ROUTER, NO),
    ("too_short|truncated", "According to", ROUTER, NO),
    ("too_short", "Answer:", ROUTER, NO),
    ("too_short", "The", ROUTER, NO),
)
LEAKS: tuple[Row, ...] = (
    ("turn_token_leak", GOOD + "<|im_end|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|eot_id|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|end_of_text|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<end_of_turn>", ROUTER, NO),
    ("turn_token_leak", GOOD + "\n<start_of_turn>user\nAnd the width?", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|endoftext|>", ROUTER, NO),
    ("turn_token_leak", GOOD + " </s>", ROUTER, NO),
    ("turn_token_leak", "<s>" + GOOD, ROUTER, NO),
    ("turn_token_leak", "[INST] " + ROUTER + " [/INST] " + GOOD, ROUTER, NO),
    ("turn_token_leak", GOOD + " [/INST]", ROUTER, NO),
    ("turn_token_leak", "<<SYS>>\nBe brief.\n<</SYS>>\n" + GOOD, ROUTER, NO),
    ("turn_token_leak", "<|start_header_id|>assistant<|end_header_id|>\n\n" + GOOD, ROUTER, NO),
    ("turn_token_leak", GOOD + "<|user|>\nWhat else?", ROUTER, NO),
    ("turn_token_leak", "<|assistant|>" + GOOD, ROUTER, NO),
    ("turn_token_leak", GOOD + "<|end|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<｜end▁of▁sentence｜>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<｜User｜>What is the width?", ROUTER, NO),
    ("turn_token_leak|think_leak", "<|channel|>final<|message|>" + GOOD + "<|return|>", ROUTER, NO),
    ("turn_token_leak|think_leak", "<|channel|>analysis<|message|>Need count.<|end|>" + GOOD, ROUTER, NO),
    ("turn_token_leak", GOOD + "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|END_OF_TURN_TOKEN|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|eom_id|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<extra_id_1>User", ROUTER, NO),
    ("turn_token_leak", GOOD + "[|endofturn|]", ROUTER, NO),
    ("turn_token_leak", "<|start_of_role|>assistant<|end_of_role|>" + GOOD, ROUTER, NO),
    ("turn_token_leak", GOOD + "<eos>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<pad><pad>", ROUTER, NO),
    ("turn_token_leak", GOOD + " <unk>", ROUTER, NO),
    ("turn_token_leak", "<bos>" + GOOD, ROUTER, NO),
    ("turn_token_leak", GOOD + "<turn|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "\n<|im_start|>assistant\n" + GOOD, ROUTER, NO),
    ("think_leak|turn_token_leak", "[THINK]Let me count.[/THINK]" + GOOD, ROUTER, NO),
    ("think_leak|turn_token_leak", "Thinking...\nCount them.\n...done thinking.\n\n" + GOOD, ROUTER, NO),
    ("think_leak|turn_token_leak", "<thinking>Count them.</thinking>\n" + GOOD, ROUTER, NO),
    ("think_leak|turn_token_leak", "<reasoning>Count.</reasoning><answer>Two.</answer>", ROUTER, NO),
    ("think_leak|turn_token_leak", "◁think▷Count them.◁/think▷" + GOOD, ROUTER, NO),
    ("think_leak", "</think>\n\n" + GOOD, ROUTER, NO),
    ("think_leak|turn_token_leak", "<|begin_of_thought|>Count<|end_of_thought|>" + GOOD, ROUTER, NO),
    ("think_leak", "<think>The excerpt says", ROUTER, CUT),
    ("think_leak", "Okay, so I need to find how many experts are kept. Let's look at the excerpts.", ROUTER, NO),
    ("think_leak", "We need to answer: how many experts. The excerpt says two. So answer two.", ROUTER, NO),
    ("turn_token_leak|think_leak", "assistantfinal" + GOOD, ROUTER, NO),
    ("turn_token_leak|self_dialogue", GOOD + "\nassistant\n" + GOOD, ROUTER, NO),
)
MENTIONS: tuple[Row, ...] = (
    ("ok", "The turns are marked with <|im_start|> and <|im_end|>, or with [INST] and [/INST].", FORMAT, NO),
    ("ok", "`<|im_start|>` opens a turn and `<|im_end|>` closes it.", FORMAT, NO),
    ("ok", "<|im_start|> and <|im_end|>", FORMAT, NO),
    ("ok", "They use [INST] before the user turn and [/INST] after it.", FORMAT, NO),
    ("ok", "If the server does not stop at <|im_end|>, the model writes the next user turn itself.", STOP, NO),
    ("ok", "Reasoning models put their thoughts between <think> and </think>.", "Where do thoughts stand?", NO),
    ("ok", "The thoughts stand between the tags <think> and </think>, which are removed.", "Where?", NO),
    ("ok", 'According to "Chat Formats and Their Failures", the token "<|im_end|>" ends a turn.', STOP, NO),
    ("ok", "The special token </s> ends a sequence in LLaMA, and <|eot_id|> ends a turn in Llama 3.", FORMAT, NO),
    ("ok", "Gemma uses <start_of_turn> and <end_of_turn> to mark each turn.", FORMAT, NO),
    ("ok", "The <pad> token is masked in the loss.", "Which token is masked?", NO),
    ("ok", "Unknown words are replaced with <unk> before training.", "How are unknown words handled?", NO),
    ("ok", "BERT puts [CLS] first and [SEP] between the sentences.", FORMAT, NO),
    ("ok", "The model writes `<think>` first, then its reasoning, and closes with `</think>`.", FORMAT, NO),
    ("ok", "Es beginnt mit <|im_start|> und endet mit <|im_end|>.", "Womit beginnt eine Runde?", NO),
    ("ok", 'Each user prompt is labeled "User:" and each reply "Assistant:".', FORMAT, NO),
    ("ok", "Thinking tokens are not counted in the budget of the answer.", "What is not counted?", NO),
)
PROMPTS: tuple[Row, ...] = (
    ("prompt_leak", SYSTEM, ROUTER, NO),
    ("prompt_leak", SYSTEM[:190], ROUTER, NO),
    ("prompt_leak", "Use only the excerpts below. Name the article that supports each statement. " + GOOD, ROUTER, NO),
    (
        "prompt_leak",
        GOOD + " Reply in full sentences and do not use bullet points. When the excerpts do not hold "
        "the answer, say that it is not in the articles.",
        ROUTER,
        NO,
    ),
    (
        "prompt_leak",
        "You are a research assistant for a collection of scientific articles. Use only the excerpts "
        "below.\n\n" + PASSAGES[0][1],
        ROUTER,
        NO,
    ),
    ("prompt_leak", f"[1] {PASSAGES[0][0]}\n{PASSAGES[0][1]}\n\n[2] {PASSAGES[1][0]}\n{PASSAGES[1][1]}", ROUTER, NO),
    ("prompt_leak", PASSAGES[0][1], ROUTER, NO),
    ("prompt_leak|truncated", PASSAGES[0][1][:330], WHY, CUT),
    ("prompt_leak", f"Title: {PASSAGES[0][0]}\nText: {PASSAGES[0][1]}", ROUTER, NO),
    ("ok", "We insert a routing layer after every third block of the encoder.", "Where is the layer?", NO),
    ("ok", 'The article says: "The router scores 16 experts and keeps the best two for each frame."', ROUTER, NO),
    (
        "ok",
        "An ablation with a single expert loses most of the gain, which suggests that the mixture, and not the "
        "extra width, matters.",
        WHY,
        NO,
    ),
    (
        "ok",
        'In "Sparse Routing for Speech Encoders" the router scores 16 experts and keeps the best two for each '
        "frame. Training used 8 V100 cards for 5 days.",
        HARD,
        NO,
    ),
    ("ok", "The answer is not in the articles.", "What is the capital of Peru?", NO),
    ("ok", "The excerpts do not hold the answer, so I cannot say it from the articles.", "Who paid for it?", NO),
)
DIALOGUES: tuple[Row, ...] = (
    ("self_dialogue", GOOD + "\n\nQuestion: How many experts are there?\nAnswer: There are 16.", ROUTER, NO),
    ("self_dialogue", GOOD + "\nUser: And the width?\nAssistant: It does not matter.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nQ: How many experts are there?\nA: 16.", ROUTER, NO),
    ("self_dialogue", GOOD + "\nHuman: Thanks! How long did it train?\nAI: Five days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n### Instruction:\nDescribe the router.\n### Response:\nIt scores experts.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n**User:** How long?\n**Assistant:** Five days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nuser\nHow long did it train?\nassistant\nFive days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nFollow-up question: How long did it train?\nAnswer: Five days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\nFrage: Wie lange?\nAntwort: Fünf Tage.", ROUTER, NO),
    ("self_dialogue", GOOD + "\nQuestion : Combien de jours ?\nRéponse : Cinq jours.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n问题：训练了多久？\n回答：五天。", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nUSER: Who wrote it?", ROUTER, NO),
    ("self_dialogue", GOOD + " Question: How many experts are there? Answer: There are 16 of them.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nHuman: What about the clean test set", ROUTER, CUT),
    ("self_dialogue", GOOD + "\n\nQuestion 2: How long did it train?\nAnswer 2: Five days.", ROUTER, NO),
    ("ok", "Answer: The router keeps two experts.", ROUTER, NO),
    ("ok", "**Answer:** two experts for each frame.", ROUTER, NO),
    ("ok", "The question is how the width matters. The ablation answers it: it does not.", WHY, NO),
    ("ok", "Each user rates the answer, and the assistant gets the mean of all ratings.", "How is it rated?", NO),
)
FORMS: tuple[Row, ...] = (
    (
        "ok",
        "## Routing\n\nThe router scores 16 experts.\n\n## Result\n\nIt keeps the best two for each frame.",
        ROUTER,
        NO,
    ),
    ("ok", "**Method.** The router scores 16 experts.\n\n**Training.** It took 5 days on 8 V100 cards.", HARD, NO),
    ("ok", "1. Score the 16 experts.\n2. Keep the best two.\n3. Sum their outputs.", "How does routing work?", NO),
    ("ok", "- 16 experts are scored\n- the best two are kept", ROUTER, NO),
    ("ok", "| set | WER |\n|---|---|\n| noisy | 7.8% |\n| clean | 3.1% |", WER, NO),
    ("ok", "Summary: The mixture matters.\n\nDetails: With one expert most of the gain is lost.", WHY, NO),
    (
        "self_dialogue",
        "## Routing\n\nThe router keeps two.\n\n## Question\n\nHow long did it train?\n\n## Answer\n\nFive days.",
        ROUTER,
        NO,
    ),
    ("truncated", "## Routing\n\nThe router scores 16 experts and keeps", ROUTER, CUT),
    ("truncated", "The router keeps two experts. It was trained for five days on eight cards. The clean", HARD, CUT),
    ("truncated", GOOD, ROUTER, CUT),
    ("prompt_overflow", GOOD, ROUTER, {"done_reason": "length", "answer_tokens": 12}),
    ("repetition_loop", "The router keeps two experts. " * 30, ROUTER, CUT),
    ("repetition_loop", "!" * 400, ROUTER, {"done_reason": "loop"}),
    ("repetition_loop", "\n" * 400, ROUTER, {"done_reason": "loop"}),
    ("repetition_loop", "Two experts, two experts, " * 25, ROUTER, CUT),
    ("repetition_loop", "routing routing " + "routing " * 120, ROUTER, NO),
    ("repetition_loop", GOOD + "\n\n" + "The router scores the experts and picks.\n" * 20, ROUTER, NO),
    ("repetition_loop", "".join(f"{n}. The router keeps the best expert.\n" for n in range(1, 30)), ROUTER, CUT),
    ("repetition_loop", "路由器保留两个专家。" * 30, ROUTER, CUT),
    ("repetition_loop", "0" * 300, WER, CUT),
    (
        "ok",
        "It keeps two experts. The two experts are summed, and the two weights are normalized by their sum.",
        ROUTER,
        NO,
    ),
    ("ok", "Very, very few: two of 16.", ROUTER, NO),
)
ROWS = (*SHORT, *LEAKS, *MENTIONS, *PROMPTS, *DIALOGUES, *FORMS)

# The second set, written after the first had passed: 49 of 62 at first sight, 9 of the 13 with rare tokens.
SECOND: tuple[Row, ...] = (
    ("ok", "Twice as many", "How many more frames?", NO),
    ("ok", "approximately 2", ROUTER, NO),
    ("ok", "Top-2", ROUTER, NO),
    ("ok", "(b)", "Which option is right, (a) or (b)?", NO),
    ("ok", "B", "Which option is right, A or B?", NO),
    ("ok", "None", "Which gain does the clean set show?", NO),
    ("ok", "1e-4", "Which learning rate?", NO),
    ("ok", "$\\sqrt{d}$", "By what is the score divided?", NO),
    ("ok", "Mean pooling", "Which pooling is used?", NO),
    ("ok", "English and Swahili", "Which languages?", NO),
    ("ok", "In 2019", "When was it published?", NO),
    ("ok", "huit", "Combien de cartes ?", NO),
    ("ok", "V100カード8枚", "どのハードウェアを使いましたか。", NO),
    ("ok", "不变", "干净的测试集变化吗？", NO),
    ("too_short|truncated", "The word error rate on the noisy set is", WER, NO),
    ("too_short|truncated", "It was trained with the", HARD, NO),
    ("too_short", "Sure!", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|im_end", ROUTER, NO),
    ("turn_token_leak", GOOD + "\n</s></s></s>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|endofprompt|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<end_of_utterance>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<eoa>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<fim_prefix>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<unused42>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<|reserved_special_token_7|>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<seed:eos>", ROUTER, NO),
    ("turn_token_leak", GOOD + "[EOT]", ROUTER, NO),
    ("turn_token_leak", GOOD + "<reserved_106>", ROUTER, NO),
    ("turn_token_leak", GOOD + "<start_of_image>", ROUTER, NO),
    ("turn_token_leak|self_dialogue", GOOD + "<role>HUMAN</role>How long?", ROUTER, NO),
    ("turn_token_leak", GOOD + "<\uff5cAssistant\uff5c>", ROUTER, NO),
    ("think_leak|turn_token_leak", "<seed:think>Count.</seed:think>" + GOOD, ROUTER, NO),
    ("think_leak|turn_token_leak", "<thought>\nCount.\n</thought>\n" + GOOD, ROUTER, NO),
    ("think_leak", "The user asks how many experts are kept. I should look at the first excerpt. " + GOOD, ROUTER, NO),
    ("think_leak", "Let me think about this step by step. The user wants to know the count.", ROUTER, NO),
    ("think_leak|turn_token_leak", "<|start|>assistant<|channel|>final<|message|>" + GOOD, ROUTER, NO),
    ("ok", "The user asks for a route, and the router picks two experts.", "What starts the routing?", NO),
    ("ok", "The tag <br> is kept in the tables, and 3 < 5 holds for x<y.", "Which tag is kept?", NO),
    ("ok", "Tokens such as <unused42> are reserved for later use.", "Which tokens are reserved?", NO),
    ("ok", 'Between "<s>" and "</s>" stands one sentence.', FORMAT, NO),
    ("ok", "They replace each user name by the token <user>.", "How are names masked?", NO),
    ("ok", "Llama 2 wraps the system prompt in <<SYS>> and <</SYS>>.", FORMAT, NO),
    ("ok", "The template ends every reply with the token <|eot_id|>.", FORMAT, NO),
    ("ok", "Thoughts are written as <think>...</think> and cut before scoring.", "How are thoughts written?", NO),
    ("prompt_leak", "Sure. Use only the excerpts below. Name the article that supports each statement.", ROUTER, NO),
    (
        "prompt_leak",
        "I am a research assistant for a collection of scientific articles. I reply in full sentences and "
        "do not use bullet points. When the excerpts do not hold the answer, say that it is not in the articles.",
        ROUTER,
        NO,
    ),
    ("prompt_leak", ROUTER, ROUTER, NO),
    ("prompt_leak", f"Context: {PASSAGES[0][1]}\n\nTherefore two.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nHow long did the training take?\n\nIt took five days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\nUtilisateur : Et la largeur ?\nAssistant : Elle ne compte pas.", ROUTER, NO),
    (
        "self_dialogue",
        GOOD + "\n\u7528\u6237\uff1a\u591a\u4e45\uff1f\n\u52a9\u624b\uff1a\u4e94\u5929\u3002",
        ROUTER,
        NO,
    ),
    ("self_dialogue", GOOD + "\n[User]: How long?\n[Assistant]: Five days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nPrompt: How long did it train?\nCompletion: Five days.", ROUTER, NO),
    ("self_dialogue", GOOD + "\n\nInput: How long did it train?\nOutput: Five days.", ROUTER, NO),
    ("ok", "Input: 16 scores.\nOutput: the best two experts.", "What are input and output of the router?", NO),
    ("ok", "Why does it matter? Because the ablation with one expert loses the gain.", WHY, NO),
    ("repetition_loop", "the the the the the the the the the the the the the the the the the", ROUTER, NO),
    ("repetition_loop", GOOD + " " + "\U0001f600" * 60, ROUTER, CUT),
    ("repetition_loop", "1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2", ROUTER, CUT),
    ("repetition_loop|prompt_overflow", "\n\n".join(["The clean set does not change at all."] * 6), YN, NO),
    ("truncated|repetition_loop", GOOD + " " + "_" * 300, ROUTER, CUT),
    ("truncated", "- 16 experts\n- the best two\n- after every", ROUTER, CUT),
)
