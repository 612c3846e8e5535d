# ruff: noqa: E501
"""Answers of several sentences, as models write them."""

REFUSALS = [
    "The provided context does not contain information about the number of parameters in GPT-4. The passages discuss TinyLlama, which has 1.1 billion parameters and was trained on 3 trillion tokens, and SmolLM2, which has 1.7 billion parameters. If you have a question about those models, I can answer it.",
    "I'm sorry, but I can't answer that from the papers provided.\nThe papers provided focus on:\n- Retrieval-augmented generation\n- Quantization\n- Parameter-efficient fine-tuning\nNone of these address the question.",
    "Based on the provided passages, there is no information regarding who won the 2018 World Cup. The passages are about machine learning research, specifically about LoRA and QLoRA. Therefore, I cannot provide an answer to this question.",
    'The question asks about the price of GPUs in 2023. The context includes "QLoRA: Efficient Finetuning of Quantized LLMs" and "LoRA: Low-Rank Adaptation of Large Language Models", neither of which discusses prices. So the answer cannot be found in the context.',
    "**Answer:** The papers do not state this.",
    'Unfortunately, none of the excerpts answers this. The closest is "RAGAS", which describes how faithfulness is measured.',
    "The papers do not report it. [1][2]",
    "I don't know based on the provided context.",
    'According to "LoRA: Low-Rank Adaptation of Large Language Models", the information about the training cost is not provided.',
    'The passages do not say. "LoRA" only reports that 10,000 times fewer parameters are trained.',
]
ANSWERS = [
    'According to "QLoRA: Efficient Finetuning of Quantized LLMs", memory falls from more than 780GB to less than 48GB. The paper does not say how long training takes on other cards, and the other excerpts do not mention it.',
    'The papers do not directly compare the two. However, "LoRA" reports 91.6 on GLUE while "Adapters" reports 91.2, so LoRA appears slightly better.',
    "TruthfulQA has 817 questions in 38 categories. The best model was truthful on 58% of them, while humans were on 94%. The paper does not give a figure for GPT-4.",
    "The excerpt does not mention the exact number of hops, but it states that most questions need two supporting paragraphs.",
    "RGB tests four abilities: noise robustness, negative rejection, information integration and counterfactual robustness. Negative rejection means that the model should decline to answer when the documents do not contain the answer.",
    "In CRAG, a retrieval evaluator grades the documents as correct, incorrect or ambiguous. If no document is relevant, the system discards them and searches the web instead.",
    "Self-RAG. The excerpts don't compare it with CRAG.",
    "The capital of France is Paris. This is not mentioned in the provided papers, but it is general knowledge.",
    "While the provided papers do not mention the boiling point of water, it boils at 100 °C at sea level.",
    "The provided papers don't cover cooking. That said, a soft-boiled egg usually takes six minutes.",
    "As the context does not mention this, I will answer from general knowledge: photosynthesis turns light into chemical energy.",
    "I don't have specific information about this in the context. Photosynthesis is the process by which plants convert light energy into chemical energy.",
]
