"""What the classifier of refusals sees of an answer in another language than English: the kinds of its words.

``refusal_lexicon.tsv`` lists the words of each kind in each language: "SOURCE" of papers and passages, "NOT", "SAY".
All languages share one table of weights, since which kinds stand together in a clause tells a refusal from an answer,
more than their order does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from mlx_ragtune.scoring.answers.refusal_features import QUOTED, SENTENCE_MARK, TOKEN, n_grams, pairs
from mlx_ragtune.scoring.answers.refusal_words import OTHER_WORD, word_of

LEXICON = Path(__file__).with_name("refusal_lexicon.tsv")
"""A language, a kind and its words on each line. A word that ends in "*" has any ending, "_" is a space."""
SKIPPED_KIND = "DET"
"""Articles: a sentence says the same without them."""

_UNSPACED_LANGUAGES = frozenset(("zh", "ja", "ko"))
_MARKS = str.maketrans({"，": ",", "、": ",", "；": ";", "：": ":", "。": SENTENCE_MARK, "！": SENTENCE_MARK})
_SIMPLIFIED = str.maketrans(
    "論獻檔資節選來書語關報導這該沒無並從絲絕詳確難夠應須會願發現見檢閱讀尋覓說講談記載釋寫訴闡標稱討議題"
    "圍繞蓋處領顯觀證測幫協斷認結誤設價費時間長規數問給頭邊與對於為雖盡卻還當個們請謝歡樂興氣變區別優勢損"
    "網絡統編碼層訓練據傳約權備儀裝參審兒學鳥國採賴換補習較運單憑僅屬誰麼幾兩過慚線細況實礎羅達錄舉頁簡覽"
    "遺響異聯係內裡裏後項塊訊諒復準驗試調顆經終條詞棄傷慮總則讓識庫冊顧義號寬輕齡匯額鍵類圖樣體產連佈",
    "论献档资节选来书语关报导这该没无并从丝绝详确难够应须会愿发现见检阅读寻觅说讲谈记载释写诉阐标称讨议题"
    "围绕盖处领显观证测帮协断认结误设价费时间长规数问给头边与对于为虽尽却还当个们请谢欢乐兴气变区别优势损"
    "网络统编码层训练据传约权备仪装参审儿学鸟国采赖换补习较运单凭仅属谁么几两过惭线细况实础罗达录举页简览"
    "遗响异联系内里里后项块讯谅复准验试调颗经终条词弃伤虑总则让识库册顾义号宽轻龄汇额键类图样体产连布",
)
"""Traditional to simplified Chinese, for the characters of the lexicon."""
_ENDS = frozenset((",", ";", ":", "(", ")", "—", "–", SENTENCE_MARK))
_NEGATIONS = frozenset(("NOT", "NOTHING", "CANNOT", "LACKING"))
_REFUSING = _NEGATIONS | {"ABSENT", "FAIL"}
_FAMILIES = {
    **dict.fromkeys(("SAY", "HOLD", "COVER", "SHOW"), "TELL"),
    **dict.fromkeys(("NOT", "NOTHING", "CANNOT", "FAIL", "ABSENT"), "NEGATIVE"),
    **dict.fromkeys(("SOURCE", "PART", "AUTHOR", "STUDY", "GIVEN"), "SOURCES"),
    **dict.fromkeys(("FIND", "KNOW", "ANSWER", "GUESS", "LOOK"), "REPLY"),
    **dict.fromkeys(("INFORMATION", "QUANTITY"), "FACT"),
    **dict.fromkeys(("METHOD", "PERSON", "ACT", "EFFECT"), "TOPIC"),
}
"""Kinds that mostly play the same part."""
_FUNCTIONS = frozenset(("OF", "BE", "HAVE", "AND", "IT", "PARTICLE"))


@dataclass(frozen=True)
class Lexicon:
    """The kind of each word of a language; ``prefixes`` of words with any ending, the longest first."""

    words: dict[str, str] = field(default_factory=dict)
    prefixes: list[tuple[str, str]] = field(default_factory=list)

    def kind(self, word: str) -> str:
        """The kind of a lower-case word, ``OTHER_WORD`` for a topic."""
        if kind := self.words.get(word):
            return kind
        return next((kind for prefix, kind in self.prefixes if word.startswith(prefix)), OTHER_WORD)

    @property
    def pattern(self) -> str:
        """Matches each listed word, the longest one first."""
        return "|".join(re.escape(word) for word in sorted(self.words, key=lambda word: (-len(word), word)))


@cache
def lexicons() -> Mapping[str, Lexicon]:
    """The lexicon of each language by its code. A word that is listed twice has the first kind."""
    read: dict[str, Lexicon] = {}
    for line in LEXICON.read_text(encoding="utf-8").splitlines():
        language, kind, listed = line.split("\t")
        lexicon = read.setdefault(language, Lexicon())
        for word in (word.replace("_", " ") for word in listed.split(" ")):
            if word.endswith("*"):
                lexicon.prefixes.append((word[:-1], kind))
            else:
                lexicon.words.setdefault(word, kind)
    for lexicon in read.values():
        lexicon.prefixes.sort(key=lambda prefix: -len(prefix[0]))
    return read


@cache
def _unspaced_token(language: str) -> re.Pattern[str]:
    return re.compile(rf"{QUOTED}|{lexicons()[language].pattern}|\d[\d.,%]*|\S")


@lru_cache(maxsize=16384)
def _kind(token: str, language: str) -> str:
    if token == QUOTED:
        return "TITLE"
    if token[0].isdigit():
        return "NUMBER"
    return lexicons()[language].kind(token) if token[0].isalpha() else token


def kinds(sentences: Sequence[str], language: str) -> list[str]:
    """The kinds of the words of an answer, given as normalized sentences, and its marks; of a run of topics one."""
    text = f" {SENTENCE_MARK} ".join(sentence.rstrip(" .!。！") for sentence in sentences).translate(_MARKS)
    text = text.translate(_SIMPLIFIED) if language == "zh" else text
    token = _unspaced_token(language) if language in _UNSPACED_LANGUAGES else TOKEN
    found: list[str] = []
    for kind in (_kind(word, language) for word in token.findall(text)):
        if kind not in (SKIPPED_KIND, "'") and not (kind == OTHER_WORD == (found or [""])[-1]):
            found.append(kind)
    return found


def known_share(sentences: Sequence[str], language: str) -> float:
    """The share of the words that are listed for the language, English included; 0 without a word."""
    words = [token for token in TOKEN.findall(" ".join(sentences).replace(QUOTED, "")) if token[0].isalpha()]
    kinds_of = [word_of(word).kind if language == "en" else _kind(word, language) for word in words]
    return sum(kind != OTHER_WORD for kind in kinds_of) / len(words) if words else 0.0


def _families(found: Sequence[str]) -> list[str]:
    """The kinds with one name for those that play the same part, without function words and repetitions."""
    families: list[str] = []
    for family in (_FAMILIES.get(kind, kind) for kind in found if kind not in _FUNCTIONS):
        if family != (families or [""])[-1]:
            families.append(family)
    return families


def _counts(found: Sequence[str]) -> Iterator[str]:
    yield f"g:negations {min(sum(kind in _NEGATIONS for kind in found), 3)}"
    yield f"g:kinds {min(len(found) // 4, 6)}"
    yield f"g:numbers {min(found.count('NUMBER'), 2)}"
    first, *rest = " ".join(found).split(SENTENCE_MARK)
    yield f"g:sentences {min(1 + len(rest), 3)}"
    if rest and not _REFUSING & set(first.split()):
        yield "g:begins with a statement"


def kind_features(sentences: Sequence[str], language: str) -> set[str]:
    """The features of an answer in another language than English, given as normalized sentences.

    ``m:`` one to four kinds in a row; ``u:`` two kinds in a clause, ``p:`` in a sentence; ``c:`` and ``d:`` the same of
    families of kinds; ``g:`` numbers of negations, words and sentences.
    """
    found = kinds(sentences, language)
    families = _families(found)
    names = set(n_grams("m:", ["^", *found, "$"], (1, 2, 3, 4)))
    names.update(pairs("u:", found, _ENDS, frozenset((OTHER_WORD,))))
    names.update(pairs("p:", found, frozenset((SENTENCE_MARK,)), frozenset((OTHER_WORD,))))
    names.update(n_grams("c:", ["^", *families, "$"], (2, 3, 4, 5)))
    names.update(pairs("d:", families, _ENDS, frozenset((OTHER_WORD,))))
    names.update(_counts(found))
    return names
