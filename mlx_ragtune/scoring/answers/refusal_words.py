"""Kinds of English words by which a refusal is told from an answer: sources, speakers, verbs of telling, negations.

The classifier sees the kind of a word beside the word, so that what it learns of "paper" holds for "manuscript".
"""

from dataclasses import dataclass
from functools import lru_cache

OTHER_WORD = "x"
"""The kind of every word that is not listed: topics, names."""

KINDS: dict[str, str] = {
    "SOURCE": "context passage paper document documentation doc text source material article abstract literature "
    "paragraph fragment pdf excerpt snippet extract publication manuscript chunk preprint page file reading "
    "write-up writeup corpus notes references content handout transcript digest citation",
    "PART": "section appendix supplement table figure chapter introduction conclusion portion part piece bit line "
    "rest remainder annex footnote supplementary methods",
    "AUTHOR": "author researcher writer team investigator group scientist",
    "STUDY": "study work report survey review experiment trial evaluation analysis audit investigation project",
    "I": "i we me us myself ourselves",
    "MY": "my our mine",
    "YOU": "you your yours yourself reader user one",
    "NOT": "not no never nor without hardly scarcely barely nope",
    "NOTHING": "nothing none neither nowhere nobody zero zilch nada nil",
    "FAIL": "fail lack omit skip neglect refrain abstain avoid exclude withhold leave overlook ignore miss decline "
    "forget",
    "ABSENT": "absent missing silent mute mum quiet unclear unstated unknown unspecified unreported undisclosed "
    "unmentioned unaddressed unanswered unsaid unavailable unnamed undefined undetermined unsure uncertain unaware "
    "unable insufficient inadequate impossible unanswerable silence lacking wanting vague unexplained untold "
    "undocumented unlisted unresolved unsupported ambiguous open inconclusive blank empty stumped clueless vain "
    "anonymous",
    "CAN": "can could able possible possibly possibility feasible permit allow enable let",
    "MUST": "would may might will must should shall ought need",
    "FIND": "find see locate spot discover detect come pick turn uncover encounter glean dig trace notice obtain pull "
    "make",
    "LOOK": "look search check scan comb read reread examine consult inspect browse hunt skim",
    "SAY": "mention state say specify describe disclose detail list reveal name refer cite talk speak quote quantify "
    "elaborate clarify comment hint allude define outline spell broach tackle tell delve note identify explain "
    "indicate raise record document justify divulge pinpoint characterise characterize expand go get publish "
    "enumerate itemize stipulate break",
    "HOLD": "contain include provide give offer supply furnish afford present hold carry convey deliver yield share "
    "appear feature spend extend bear shed put oblige arise crop figure",
    "COVER": "discuss cover address treat deal concern focus consider investigate explore touch involve enter reach "
    "pertain centre center revolve stick",
    "SHOW": "report show suggest demonstrate observe conclude claim argue imply assert admit acknowledge contend "
    "maintain",
    "ANSWER": "answer reply respond response help assist resolve settle verify confirm satisfy",
    "KNOW": "know determine establish ascertain infer deduce judge derive decide sure certain aware",
    "GUESS": "guess speculate speculation guesswork conjecture invent fabricate speculative assumption assume imagine "
    "hallucinate",
    "INFORMATION": "information info details data statement indication explanation description account word "
    "discussion evidence basis guidance insight coverage knowledge sign specifics fact grounds particulars clue",
    "QUANTITY": "number value size rate cost price date year amount budget length duration seed count age salary "
    "identity version weight height depth threshold reason percentage accuracy latency throughput optimizer "
    "temperature",
    "QUESTION": "question query request topic subject matter point inquiry enquiry issue",
    "SORRY": "sorry apology apologies apologize apologise regret regrettably unfortunately afraid alas sadly",
    "GIVEN": "provided given supplied retrieved available shared handed attached furnished sent received access "
    "disposal hand shown enclosed pasted uploaded posted above accompanying",
    "BEYOND": "beyond outside scope unrelated irrelevant relevant off limits",
    "OTHER": "elsewhere other another different original full more further additional else",
    "ENOUGH": "enough sufficient sufficiently adequate adequately little scant few",
    "EXACT": "exact exactly specific specifically precise precisely explicit explicitly particular direct directly "
    "actual concrete definite clear",
    "EFFECT": "effect difference improvement correlation gain benefit significance significant increase decrease drop "
    "loss change relationship association advantage result bias influence impact harm degradation penalty",
    "METHOD": "model network system method approach algorithm retriever generator encoder decoder layer training "
    "adapter lora qlora baseline classifier agent prompt index tokenizer sampler dataset benchmark variant gpt "
    "architecture pipeline evaluator server client protocol bert llama theorem bound attention memory device sensor "
    "drug treatment policy estimator set vector embedding llm",
    "PERSON": "annotator participant rater patient people respondent worker human child student reviewer volunteer "
    "bird animal plant customer person",
    "ACT": "use train require improve propose evaluate test compare agree differ depend overlap release fit match "
    "recommend exceed affect perform hurt slow degrade outperform converge learn predict update freeze merge run "
    "scale vary cause generalize transfer rely apply add remove compute sample select estimate store replace reduce "
    "produce return generate measure reject support replicate reproduce prove stop start fall rise collect split "
    "assign",
    "ONLY": "only just merely solely simply instead rather purely exclusively confined limited restricted",
    "BE": "is are was were be been being am remain stay seem",
    "DO": "do does did",
    "HAVE": "have has had having",
    "THE": "the this that these those both either any all",
    "A": "a an",
    "IT": "it they them their its he she here there",
    "WHAT": "what which who how why when where whether whom whose",
    "OF": "of in on for to from by with at about regarding into as per within among concerning",
    "BUT": "but however though although while yet still whereas",
    "AND": "and or so therefore thus hence",
    "IF": "if unless until because since",
    "USUALLY": "generally general typically usually commonly normally probably likely think believe presumably",
    "PLEASE": "please happy glad thank thanks great appreciate welcome hello hi",
}
"""The words of each kind, in their base form. A word that is listed twice has the first kind."""

FUNCTION_KINDS = frozenset(
    ("OF", "WHAT", "BE", "DO", "MUST", "NOT", "NOTHING", "BUT", "IF", "IT", "I", "CAN", "AND", "HAVE")
)
"""Kinds of which the classifier sees each word."""
SKIPPED_KINDS = frozenset(("A", "THE"))
"""Kinds without which a sentence says the same."""

_INFLECTED = frozenset(("SAY", "HOLD", "COVER", "SHOW", "FIND", "ANSWER", "KNOW", "ACT", "FAIL", "LOOK"))
_IRREGULAR = {
    **{"found": "find", "saw": "see", "seen": "see", "told": "tell", "said": "say", "gave": "give", "gone": "go"},
    **{"went": "go", "got": "get", "knew": "know", "known": "know", "left": "leave", "held": "hold", "dealt": "deal"},
    **{"showed": "show", "spoke": "speak", "came": "come", "made": "make", "took": "take", "fell": "fall"},
    **{"rose": "rise", "ran": "run", "spelt": "spell", "kept": "keep", "withheld": "withhold"},
}
_IRREGULAR_PLURALS = {"children": "child", "analyses": "analysis"}
_ENDINGS = (("ies", "s"), ("es", "s"), ("s", "s"), ("ied", "ed"), ("ed", "ed"), ("ing", "ing"), ("ly", "ly"))
_KIND_OF = {word: kind for kind, listed in reversed(KINDS.items()) for word in listed.split()}


@dataclass(frozen=True)
class Word:
    """A word's stem, its ending ("", "s", "ed", "ing", "ly") and its kind, for some verbs with the ending."""

    stem: str
    ending: str
    kind: str


def _kind(stem: str, ending: str) -> str:
    kind = _KIND_OF[stem]
    return kind + ending if kind in _INFLECTED and ending in ("ed", "ing") else kind


def _stems(word: str, suffix: str) -> list[str]:
    """What the word may be an inflected form of."""
    rest = word.removesuffix(suffix)
    if suffix in ("ies", "ied"):
        return [f"{rest}y"]
    return [rest, f"{rest}e", *([rest[:-1]] if len(rest) > 2 and rest[-1] == rest[-2] else [])]


@lru_cache(maxsize=16384)
def word_of(word: str) -> Word:
    """The stem, ending and kind of a lower-case English word. Unlisted words are stemmed by their endings alone."""
    if word in _KIND_OF:
        return Word(word, "", _KIND_OF[word])
    if word in _IRREGULAR:
        stem = _IRREGULAR[word]
        return Word(stem, "ed", _kind(stem, "ed") if stem in _KIND_OF else OTHER_WORD)
    if word in _IRREGULAR_PLURALS:
        return Word(_IRREGULAR_PLURALS[word], "s", _KIND_OF[_IRREGULAR_PLURALS[word]])
    for suffix, ending in _ENDINGS:
        if word.endswith(suffix) and len(word) > len(suffix) + 1:
            for stem in _stems(word, suffix):
                if stem in _KIND_OF:
                    return Word(stem, ending, _kind(stem, ending))
    for suffix, ending in _ENDINGS:
        if word.endswith(suffix) and len(word) > len(suffix) + 2 and not word.endswith("ss"):
            return Word(word.removesuffix(suffix), ending, OTHER_WORD)
    return Word(word, "", OTHER_WORD)
