"""In which language is a text? By script, then by function words; no model and no dependency.

Validity, nuggets, numbers and refusals are read in the languages of ``SUPPORTED``. A benchmark in another one
is refused before anything runs, since its refusals would count as answers.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from mlx_ragtune.errors import InputError

SUPPORTED = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
}
"""Languages in which answers can be scored."""
OTHERS = {
    "pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "sv": "Swedish", "da": "Danish", "no": "Norwegian",
    "fi": "Finnish", "tr": "Turkish", "cs": "Czech", "hu": "Hungarian", "ro": "Romanian", "vi": "Vietnamese",
    "id": "Indonesian", "ru": "Russian or another language in Cyrillic", "el": "Greek", "ar": "Arabic or Persian",
    "he": "Hebrew", "hi": "Hindi or another language in Devanagari", "th": "Thai",
    "bn": "Bengali", "ta": "Tamil", "te": "Telugu", "ka": "Georgian", "hy": "Armenian", "am": "Amharic",
    "km": "Khmer", "my": "Burmese", "lo": "Lao",
}  # fmt: skip
"""Languages that are recognized, but not supported."""
FOREIGN_SHARE = 0.1
"""A benchmark with this share of texts in languages that are not supported is refused."""

_FUNCTION_WORDS = {
    "en": "the of and to in is was are that for with which what how does do did from by not be on as it this who "
    "where when why an were has have than at or its",
    "de": "der die das und ist sind nicht ein eine einen einem einer wie was welche welcher welches wer wann warum wo "
    "mit von zu den dem des im auf für werden wird wurde wurden sich auch als bei nach keine durch aus um zur zum wie "
    "viele viel ich hat haben dazu daher diesem dieser dieses beim über",
    "fr": "le la les des du et est sont une un dans que qui quel quelle quels quelles pour par sur avec ne pas ce "
    "cette ces comment pourquoi quand où au aux plus il elle ils elles été être a ont combien selon je leur",
    "es": "el los las del y es son una un en que qué cuál cuáles cómo por para con no se lo su sus cuándo dónde quién "
    "al más fue fueron como ha han está entre sobre cuántos cuántas esta este",
    "it": "il lo gli le di del della dei delle e è sono una un che per con non si come quale quali quanto quanti "
    "quando dove perché nel nella nei da dal alla sul più chi cosa al ai ha hanno questo questa",
    "pt": "o os as do da dos das e é são uma um em que qual quais como por para com não se no na nos nas ao foi mais "
    "quando onde quem quantos você isso pelo pela",
    "nl": "de het een en is zijn niet van in op met voor dat die wat welke hoe wie waar wanneer waarom aan bij door "
    "werd worden wordt ook naar uit om te er geen dit hoeveel deze",
    "pl": "i w na z nie się jest są do że co jak jaki jaka jakie który która które ile gdzie kiedy dlaczego kto oraz "
    "od po przez dla czy to o przy",
    "sv": "och att det i på är som en ett av för med den inte till vad hur vilka vilken vem när varför från om var de "
    "har kan efter många",
    "da": "og at det i på er som en et af for med den ikke til hvad hvordan hvilke hvilken hvem hvornår hvorfor fra om "
    "var de har kan efter mange blev",
    "no": "og at det i på er som en et av for med den ikke til hva hvordan hvilke hvilken hvem når hvorfor fra om var "
    "de har kan etter mange ble",
    "fi": "ja on ei se että oli mitä mikä miten kuinka missä milloin miksi kuka ovat joka jotka kun myös tai mutta "
    "montako paljonko kuin",
    "tr": "ve bir bu ne nasıl hangi kaç için ile de da mi mı mu mü kim nerede neden olarak değil daha çok en var olan "
    "gibi sonra",
    "cs": "a v na je se že jsou z do s o jak co který která které kolik kde kdy proč kdo pro od po při není byl byla",
    "hu": "a az és hogy nem egy van mi mit hogyan mikor hol miért ki melyik mennyi hány volt is meg de kell milyen",
    "ro": "și în de la cu pe este sunt nu ce care cum când unde cine câte câți un o din pentru mai a au fost prin",
    "vi": "và của là có không được trong cho với các những một này đó bao nhiêu như thế nào khi ở đâu ai tại sao",
    "id": "dan yang di dari untuk dengan ini itu adalah tidak pada ke apa bagaimana berapa siapa kapan mengapa dalam "
    "oleh atau sebuah akan",
}
_LANGUAGES_OF_WORD: dict[str, list[str]] = {}
for _code, _words in _FUNCTION_WORDS.items():
    for _word in dict.fromkeys(_words.split()):
        _LANGUAGES_OF_WORD.setdefault(_word, []).append(_code)
_SCRIPTS = {
    "kana": r"\u3041-\u3096\u30a1-\u30fa\u30fc",
    "zh": r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "ko": r"\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e",
    "ru": r"\u0400-\u052f",
    "el": r"\u0370-\u03ff\u1f00-\u1fff",
    "ar": r"\u0600-\u06ff\u0750-\u077f",
    "he": r"\u0590-\u05ff",
    "hi": r"\u0900-\u097f",
    "bn": r"\u0980-\u09ff",
    "ta": r"\u0b80-\u0bff",
    "te": r"\u0c00-\u0c7f",
    "th": r"\u0e00-\u0e7f",
    "lo": r"\u0e80-\u0eff",
    "my": r"\u1000-\u109f",
    "ka": r"\u10a0-\u10ff",
    "am": r"\u1200-\u137f",
    "hy": r"\u0530-\u058f",
    "km": r"\u1780-\u17ff",
}
_RUNS = re.compile("|".join(rf"(?P<{name}>[{characters}])" for name, characters in _SCRIPTS.items()))
_LATIN = re.compile(r"[a-zà-öø-ÿā-ſșțạ-ỹ]+")
_LETTERS_PER_WORD = {"zh": 1.7, "kana": 2.5, "th": 4.0, "ko": 2.5}
_SCRIPT_SHARE = 0.3
_MIN_FUNCTION_WORDS = 2


@lru_cache(maxsize=4096)
def language_of(text: str) -> str | None:
    """The code of the language ("en", "zh"), or None when the text is too short or too mixed to tell.

    Another script than Latin decides when it has 30% of the words, since papers in any language use English
    terms; Greek letters in formulas are not enough. In Latin script the most function words decide, at least two.
    """
    lowered = text.casefold()
    latin = _LATIN.findall(lowered)
    letters = Counter(match.lastgroup or "" for match in _RUNS.finditer(lowered))
    sizes = {name: count / _LETTERS_PER_WORD.get(name, 5.0) for name, count in letters.items()}
    east_asian = sizes.pop("kana", 0.0) + sizes.get("zh", 0.0)
    if "zh" in sizes or letters["kana"]:
        sizes["zh"] = east_asian
    if sizes:
        script, size = max(sizes.items(), key=lambda item: item[1])
        if size >= _SCRIPT_SHARE * (size + len(latin)) and (size >= 1 or not latin):
            return "ja" if script == "zh" and letters["kana"] >= 0.1 * (letters["kana"] + letters["zh"]) else script
    hits = Counter(code for word in latin for code in _LANGUAGES_OF_WORD.get(word, ()))
    ranked = [*hits.most_common(2), ("", 0)]
    if not hits or ranked[0][1] < _MIN_FUNCTION_WORDS or ranked[0][1] == ranked[1][1]:
        return None
    return ranked[0][0]


def require_supported(texts: Iterable[tuple[str, str]]) -> None:
    """Raise InputError when a tenth of the (``file:line``, text) pairs is in a language that cannot be scored.

    Texts whose language cannot be told are not counted.
    """
    languages = [(where, code) for where, text in texts if (code := language_of(text)) is not None]
    foreign = [(where, code) for where, code in languages if code not in SUPPORTED]
    if not foreign or len(foreign) < FOREIGN_SHARE * len(languages):
        return
    names = ", ".join(OTHERS[code] for code, _ in Counter(code for _, code in foreign).most_common(3))
    raise InputError(
        f"{len(foreign)} of {len(languages)} benchmark questions are in a language in which answers cannot be scored"
        f" ({names})",
        where=foreign[0][0],
        fix=f"write questions and references in one of these languages: {', '.join(SUPPORTED.values())}",
    )
