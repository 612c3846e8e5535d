"""Control tokens of all model families in a text, and the text without them.

A paper or a question may hold ``<|im_end|>`` as text. A tokenizer makes the end of a turn of it, in training and at
the server. So every prompt shows it as ``< |im_end| >``, which no tokenizer takes for a token and every reader
understands. The list does not depend on the base model: the same text gives the same prompt everywhere.

Sources of the list: the special tokens of the tokenizers of Qwen 2 to 3 (ChatML, think, tool), Llama 2 to 4, Mistral
(``[INST]`` and the tokens of its Tekken tokenizer), Gemma 1 to 4, Phi 3 and 4, gpt-oss (channels), DeepSeek, SmolLM 1
to 3, StarCoder, GLM, Granite, Command R, Falcon, InternLM, T5 and BERT.
"""

import re

_ANGLED = (
    r"/?s|bos|eos|pad|unk|mask|sep|cls|eot|eop|sop|eoa|eoh|eod|bot|eom"
    r"|/?(?:start|end|begin)_of_(?:turn|image|audio|text|role|thought|solution|box|plugin|video)|image_soft_token"
    r"|unused\d{1,4}|extra_id_\d{1,4}|/?think|/?thinking|/?tool_call|/?tool_response|/?tools|/?tool_calls|/?observation"
    r"|fim_(?:prefix|middle|suffix|pad)|repo_name|reponame|file_sep|filename|gh_stars|issue_(?:start|comment|closed)"
    r"|jupyter_(?:start|text|code|output|script)|empty_output|commit_(?:before|msg|after)|pr(?:_\w{1,30})?"
    r"|(?:im|turn)_(?:start|end)|reserved_\w{1,40}|restricted_\w{1,20}"
)
_BRACKETED = (
    r"/?(?:INST|SYSTEM_PROMPT|THINK|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS)|TOOL_CALLS|ARGS|CALL_ID"
    r"|IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|PREFIX|SUFFIX|MIDDLE|CLS|SEP|MASK|PAD|UNK|BOS|EOS|gMASK|sMASK"
)
CONTROL = re.compile(
    rf"<\|[^<>|\s][^<>|\n]{{0,60}}\|>|<｜[^<>｜\n]{{1,60}}｜>|<\|[^<>|\s]{{1,30}}>|<(?:{_ANGLED})>|\[(?:{_BRACKETED})\]"
    r"|<(?:turn|channel|tool|tool_call|tool_response|image|audio)\|>|<</?SYS>>|◁/?think▷|\[\|\w{2,20}\|\]"
)
"""A control token of some family, as it is written."""


def control_tokens(text: str) -> list[str]:
    """The control tokens in the text, in order."""
    return CONTROL.findall(text)


def neutral(text: str) -> str:
    """The text with a space inside both ends of every control token: ``< |im_end| >``.

    Applying it again changes nothing.
    """
    return CONTROL.sub(lambda match: f"{match[0][0]} {match[0][1:-1]} {match[0][-1]}", text)
