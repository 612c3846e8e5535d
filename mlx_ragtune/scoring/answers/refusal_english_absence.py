"""More ways to say in English that the sources do not tell: inverted, elliptical, of values, of sections not shown."""

from mlx_ragtune.scoring.answers.refusal_english_words import (
    ACTS,
    ADJECTIVES,
    ADVERBS,
    DESCRIBE,
    DOCUMENTS,
    END,
    INFORMATION,
    NOT,
    RESULT,
    SHOWN,
    SHOWN_TO_ME,
    SOURCES,
    TELL,
    TELL_WEAK,
    TOLD,
    TOLD_SURELY,
    WEAK,
)
from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED

_TELLING = (
    r"(?:mentioning|discussing|covering|saying|stating|describing|addressing|specifying|reporting|giving|answering"
    r"|explaining|telling|indicating|defining|detailing|disclosing|naming|listing|revealing|providing|quantifying"
    r"|spelling|elaborating|going into|identifying|clarifying)"
)
_AUXILIARY = r"(?:do|does|did|is|are|was|were|has|have|can|could|will|would)"
_QUANTITY = (
    r"(?:(?:[\w-]+ ){0,3}?(?:sizes?|rates?|numbers?|figures?|values?|counts?|amounts?|names?|dates?|prices?"
    r"|costs?|lengths?|times?|durations?"
    r"|percentages?|depth|width|height|age|weights?|budget|reasons?|justification|definitions?|settings?"
    r"|hyperparameters?|parameters?"
    r"|specifications?|breakdown|estimates?|examples?|citations?|links?|dosages?|dose|such \w+))\b"
)
ELSEWHERE = (
    # Nowhere do the papers say; neither does the other one.
    r"(?:nowhere|never|not once|at no (?:point|time|place)|in (?:none|neither|not one|no \w+)(?:"
    rf" of)?)\b[^;]{{0,60}}? "
    rf"{_AUXILIARY} (?:[^;]{{1,60}}? )?(?:{TELL}|{TOLD}|find|found|see|seen)",
    rf"(?:nor|neither) {_AUXILIARY} (?:{SOURCES}|{WEAK}|any|either|the (?:other|second|first|latter|former))\b",
    rf"(?:neither|none|no) (?:{QUOTED}|(?:the )?\w+ (?:one|paper|source|excerpt)|one|[\w ]{{1,30}}?) nor"
    rf" [^;]{{1,80}}? "
    rf"(?!{ACTS}){TELL}",
    rf"(?:neither|none|no one|not one) (?:one |text |source )?(?!stud|{ACTS}){TELL}",
    # The papers refrain from saying; they are unrelated to it.
    rf"(?:{SOURCES}|{WEAK}),? {ADVERBS}(?:refrains?|abstains?|shy away|shies away|stops? short|falls? short|steers?"
    r" clear|stays? clear|stays? away|avoids?|omits?|neglects?|forgets?|skips?|decline[sd]?)(?: from| of| to)?"
    rf" (?:{_TELLING}|{TELL})",
    r"[^;]{0,120}?\b(?:is|are|was|were|seems?|appears?|look)(?: to be)? (?:\w+ly |all |both |just"
    r" )?(?:unrelated|irrelevant"
    r"|unconnected|not (?:\w+ly )?(?:related|relevant|connected|pertinent|germane)|off[ -]topic|off the"
    r" topic)(?:$| (?:to|with|for|from) "
    rf"(?:[^;]{{0,40}}?{SOURCES}|(?:this|that|it|them|these|what)\b|your|(?:the|either) (?:question|topic"
    r"|subject|query|request|matter)))",
    rf"[^;]{{0,120}}?\b(?:has|have|had|bears?|shows?) (?:nothing|no (?:connection|relation|relationship|bearing"
    r"|relevance|link))"
    rf"(?: to do)? (?:to|with|on) (?:[^;]{{0,40}}?{SOURCES}|(?:this|that|it|them|these)\b|your|the (?:question"
    r"|topic|subject))",
    # It is not something that they discuss; it is not among the topics covered.
    rf"[^;]{{1,150}}? (?:is|are|was|were) (?:not|never|hardly) (?:something|anything|what|one|(?:an? |the"
    r" )?(?:\w+ )?(?:topic|subject"
    rf"|question|detail|point|matter|thing|issue|fact|figure)s?) (?:that |which )?(?:{SHOWN}|{WEAK}|i|we|one) "
    rf"(?:can |could |do |does |would |am able to |ever |\w+ly )?(?:{TELL}|answer|help|find|have|know|see)",
    r"[^;]{1,150}? (?:is|are|was|were) not (?:\w+ )?(?:among|one of|part of|any of|on the list of|within|in)"
    r" (?:the |their |its "
    r"|these |any of the )?(?:\w+ ){0,2}?(?:topics?|subjects?|things|matters|questions|points|issues|aspects|themes"
    rf"|details|items|facts|information)(?:$|[ ,]+(?:that |which )?(?:{TOLD}|{SHOWN}|{WEAK}|provided|i|here)\b)",
    # Its value is not given; the authors give no value.
    rf"(?:there (?:is|was|are|were) )?no (?!{RESULT})(?:[\w-]+ ){{1,9}}?(?:(?:is|was|are|were) )?(?:\w+ly"
    rf" )?{TOLD_SURELY}{END}",
    rf"[\w -]{{1,60}}? (?:not|never) (?:\w+ly )?{TOLD_SURELY}(?:$| (?:in|by|within) {SOURCES})",
    rf"(?:{WEAK}|{SOURCES}),? {ADVERBS}(?:giv|provid|stat|mention|nam|report|disclos|offer|list|specif|cit"
    rf"|contain|includ)\w* no (?!{RESULT}){_QUANTITY}",
    rf"[^;]{{1,200}}? (?:is|are|was|were) (?:\w+ly )?(?:not|never|nowhere) (?:\w+ly )?{TOLD} (?:in|by|within)"
    rf" (?:either )?{QUOTED}",
    r"[^;]{1,120}? (?:do|does|did) not (?:come up|crop up|get mentioned|get a mention|arise|figure)(?:$|"
    r" (?:here|there|anywhere|at all))",
    r"(?:but |though |albeit )?without (?:any |a |an |further |\w+ly ){0,2}(?:mention|stat(?:ing|ement)|giving"
    r"|saying|specify|naming|reference to|details|disclosing|telling|explain)",
    r"(?:[^;]{1,120}? )?(?:is|are|was|were) (?:not|nowhere|never) to be (?:found|seen|read)\b",
    r"[^;]{1,120}? (?:eludes?|escapes?|is beyond) (?:me|us)\b",
    # Only a section that was not shown could tell.
    r"(?:the|an?|its|their|any|such) (?:[\w-]+ ){0,3}?(?:appendix|appendices|supplement|sections?|tables?"
    r"|figures?|chapters?|pages?|full (?:paper|text)"
    r"|rest|remainder)\b[^;]{0,80}? (?:is|was|are|were) (?:not (?:\w+ )?(?:included|provided|given|shown|part"
    r"|among|here|in|available|shared|supplied)|missing|absent|cut)\b",
    r"(?:[^;]{1,120}? )?(?:that|which) i (?:do|have|was|am|can|could|did) not (?:been )?(?:have|given|shown|see"
    r"|seen|access|read|find|found)\b",
    rf"(?:which|that|and|but) (?:is|are|was|were) not (?:\w+ )?(?:{TOLD}|included|here|part of)\b",
    rf"(?:{SOURCES}|{WEAK}|neither|{QUOTED}) (?:is|are|deals?|concerns?|covers?|discuss(?:es)?|treats?|talks?"
    r"|looks?) (?:\w+ )?(?:(?:about|on|with|of|at) )?(?:something|anything|other|another"
    r"|(?:an? )?(?:entirely |completely |very )?different|(?:an? )?unrelated|matters)\b",
    r"(?:(?:this|that|your|the|it) (?:question )?(?:is|looks like|seems) )(?:\w+ )?(?:a question |one )?for"
    r" (?:another|a different|other|someone)\b",
    r"(?:you|one|we) (?:will |would |may |might |must |should )?(?:have to |need to |must |want to |better"
    r" )?(?:look|ask|search|turn|consult|go|check)\w* (?:(?:it|that|this) up )?(?:elsewhere|somewhere else"
    r"|in (?:another|other|a different)|(?:another|other|a different) (?:source|paper))",
    # A relative clause of the sources; the question is about what they do not tell.
    rf"(?:(?:this|that|the|your) question|answering|this|that|it)\b[^;]{{0,100}}? (?:that|which|what) {SOURCES}"
    rf" (?:alone |\w+ly )?{NOT} (?:{TELL}|have)",
    r"(?:one|an?|this is \w+|that is \w+|here is \w+|another|what) (?:\w+ )?(?:(?:thing|detail|point"
    rf"|aspect|question|matter|fact|figure|number|topic)\b )?(?:that |which )?(?:{SOURCES}|the authors)"
    rf" {ADVERBS}(?:{NOT} (?:\w+ )?(?:{TELL}|get to)|keeps? (?:to|from|back)|leaves? (?:out|open|unsaid)|withhold)",
    rf"(?:(?:but |and |yet )?(?:{SOURCES}|the ones here)|(?:but|and|yet) (?:they|these|neither|it)) (?:do|does"
    r"|did|have) not$",
    # A guess.
    r"[^;]{0,120}?\b(?:is|are|was|be|remains?) (?:(?:purely?|mere(?:ly)?|only|just|an?|anybody's|anyone's|sheer"
    r"|pure|a matter of) ){0,3}(?:guess\w*|speculation|speculative|conjecture|invention)\b",
    r"i (?:would|will|am|could) (?:only |just )?(?:be |have to be )?(?:making|guessing|inventing|speculating"
    r"|fabricating)\b",
    r"there is (?:simply |just |really )?no (?:telling|knowing|saying)\b",
    r"[^;]{0,200}?\bi (?!(?:\w+ )?(?:think|believe|say|answer|argue|conclude|note)\b)(?:\w+ ){0,2}?(?:not|no"
    r"|nothing|none|never|unable|nowhere)\b(?! (?:stress|emphasi|overstate|recommend|help but))",
    rf"(?!(?:in|from|according|based|by|per|across|given|with|within|using)\b)(?:[^;]{{0,60}}? )?(?<!\bin"
    r" )(?<!\bfrom )(?<!\bon )(?<!\bto )(?<!\bof )(?<!\bby )(?<!\bwith )(?<!\bwithin )"
    rf"(?:(?:the |both |all )?(?:provided|given|supplied|retrieved) (?:\w+ )?{DOCUMENTS}|(?:the|these|those"
    rf"|both|your|my) (?:\w+ )?(?:excerpts?|snippets?|extracts?)|{SHOWN_TO_ME})\b"
    r"(?:(?!\bthat\b)[^;]){0,60}?\b(?:not|no|nothing|never|nowhere|little|hardly|without|lack\w*|omit\w*|silent"
    r"|fail\w*"
    r"|insufficient|ignor\w*)\b"
    rf"(?! (?:{ACTS}|say {QUOTED}|ordered|sorted))",
    # Only something else; "the drug is named, but its dosage is not".
    rf"{SOURCES} [^;]{{0,60}}?\b(?:only|just|merely)\b[^;]{{0,60}} (?:and|but) (?:no|not|nothing)\b",
    rf"{SOURCES} {DESCRIBE}[^;]{{0,80}} (?:rather than|instead of|and not|but not|not)\b",
    r"(?:its|their|(?:but |and |though )(?:its|their|the (?:exact|actual|precise|specific))) [\w -]{1,40} (?:is"
    r"|are|was|were|does|do|has) not$",
    rf"(?:while|whereas|but) {SOURCES} (?:\w+ly )?{DESCRIBE}",
    rf"(?:these|those) (?:do|does|did) not$|(?:do|does|did) not (?:{TELL_WEAK}|contain|include|provide)",
    rf"(?:{SOURCES}|{WEAK}) (?:keeps?|stays?|remains?) (?:\w+ )?(?:quiet|silent|mum)\b",
    rf"{SOURCES} (?:is|are|was|were) not (?:\w+ly )?(?:(?:on|for) (?:this|that|the (?:topic|subject|matter"
    rf"|question))|the right)\b|{SOURCES} (?:insufficient"
    r"|inadequate|unclear)$",
    r"(?:nobody|no one) (?:says|tells|reports)\b|i am (?:missing|short of)\b",
    rf"[\w' -]{{1,80}} (?:is|are|falls?|lies?|goes) (?:\w+ )?(?:outside|beyond)(?: of)? (?:what {SOURCES}|the"
    rf" scope|{SOURCES})",
    r"[^;]{1,120}? (?:can|could) not be (?:\w+ly )?(?:known|told|determined|answered|ascertained|established|inferred"
    r"|stated|said|gleaned|deduced)$",
    rf"(?:and|but) no (?!{RESULT})[\w -]{{1,40}}$",
    # Short and elliptical ones.
    r"(?:and|but|while|though) [\w -]{1,40} (?:is|are|was|were|does|do|has) not$",
    rf"(?:and|but|though) (?:they|these|those|it|neither|none|both) (?:do|does|did) not (?!{ACTS}){TELL}",
    r"(?:and |but )?(?:neither|none) (?:of (?:them|these|those|the two) )?(?:has|have|had) (?:the|an?|any|it"
    r"|this|that)\b",
    rf"(?:but|and) (?:found|saw|see|find) no(?:thing\b| (?!{RESULT}))",
    rf"there (?:is|are|was|were) no (?!{RESULT})[^;]{{1,60}} (?:in|within|among) (?:them|it|either|there|here"
    rf"|these|any of|{SOURCES})(?:$|[ ,])",
    r"there (?:is|are|was|were) (?:not|hardly) (?:anything|a word|much|a single|one)\b[^;]{0,60}? (?:about"
    r"|on|in|here|regarding)\b",
    rf"(?:nothing|none) [^;]{{0,60}}? (?:is|are|was|were) (?:\w+ )?{TOLD_SURELY}{END}",
    rf"no (?!{RESULT})(?:[\w-]+ ){{1,5}}?(?:could be|can be|is to be|was to be) (?:\w+ly )?"
    r"(?:found|identified|located)$",
    r"(?:there (?:is|are|was|were) )?(?:no|not any) (?:\w+ )?(?:relevant|suitable|matching|related|pertinent)"
    r" (?:passages?|excerpts?"
    r"|documents?|papers?|sources?|text)\b",
    rf"[^;]{{0,80}}?\b(?:nothing|none|neither)\b[^;]{{0,20}} (?:in|of|from|among) {QUOTED}(?: (?:and|or|nor)"
    rf" {QUOTED})? (?!{ACTS}){TELL}",
    r"(?:that|this|it|the answer|an answer|answering(?: (?:this|that|it))?) would (?:need|require|take|call"
    r" for) (?:an?\b|another|the|more|further|access|knowledge"
    r"|information|going|other|outside|looking|reading)",
    rf"{SOURCES} (?:is|are) not (?:one|it|that|those)$|[^;]{{1,60}} (?:is|are) not (?:what|something|anything)"
    rf" (?:{SOURCES}|they|these|those|either)\b",
    rf"(?:{SOURCES}|{WEAK}) (?:is|are|was|were) not (?:\w+ly )?(?:explicit|clear|specific|forthcoming|precise)"
    r" (?:about|on|as to|regarding)",
    r"i (?:am|was|would be|remain) (?:\w+ )?(?:unsure|uncertain|unaware|clueless|at a loss|stumped|in the dark"
    r"|unable)\b",
    r"i (?:would |will )?have to (?:guess|speculate|pass)\b|(?:i|we) will (?:refrain|abstain|pass|decline)\b",
    r"[^;]{1,80} (?:is|are) left (?:guessing|in the dark|wondering|to (?:the reader|guess|wonder|imagin))",
    r"[^;]{1,80} (?:has|have) been left (?:out|unsaid|unstated|open)$",
    r"(?:how|what|which|whether|why|who|when|where)\b[^;]{1,120} (?:is|remains?|stays?|was) (?:left )?(?:open"
    r"|unclear|unknown|unsaid|a mystery|uncertain|undetermined)$",
    r"[^;]{1,120} remains? (?:unknown|unclear|uncertain|open) (?:on the basis of|based on|from|given|according to)\b",
    rf"(?:(?!is\b|are\b|was\b|were\b|remains?\b)[\w=-]+ ){{1,4}}(?:(?:unknown|unclear|unspecified|unstated)$"
    rf"|not (?:in|among|within|part of|from) {SOURCES})",
    rf"(?:{ADJECTIVES}{DOCUMENTS}) (?:silent|mute|unhelpful)$|[\w -]{{1,40}} = (?:not|unknown|none|n/a)\b",
    rf"{SOURCES} (?:\w+ly )?{DESCRIBE}\w*(?: on| with)? (?:only|solely|exclusively|entirely|purely|just|merely)\b",
    r"(?:i|we) (?:can|may|am able to|could) only (?:answer|help|discuss|assist|respond|talk)\b",
    rf"(?:neither|none|no one) of {SOURCES} (?:can|could|is able to|will|would) (?:help|answer|tell|say|be used"
    r"|give|provide|settle|shed)",
    rf"{SOURCES} [^;]{{0,80}}? without (?:\w+ly )?(?:{_TELLING}|any)\b",
    r"(?:neither|none|no) (?:of the )?(?:\w+ )?(?:teams?|authors?|groups?|writers?|researchers|studies)"
    rf" (?:{TELL_WEAK})",
    rf"(?:{WEAK}|{SOURCES}) (?:leaves?|left) out (?:the |an? |any |its |all )?{_QUANTITY}",
    rf"and (?:gives?|states?|provides?|names?|reports?|offers?|mentions?) no (?!{RESULT})(?:{INFORMATION}"
    rf"|{_QUANTITY})",
    r"[^;]{1,80} (?:is|are|was|were) in (?:neither|none)\b|(?:the|an) answer (?:\w+ )?(?:eludes|escapes|lies"
    r" beyond|exceeds)\b",
    rf"i (?:only|just) have (?:\w+ )?{DOCUMENTS}",
    r"(?:[^;]{1,120} )?never (?:comes?|came|arises?|crops?|appears?|features?)(?: up)?(?:$| (?:in|here|there"
    r"|anywhere))",
    rf"(?:the|this|that|such|any) (?:{_QUANTITY}|{INFORMATION}|identity)[^;]{{0,60}} (?:is|are) (?:\w+ly"
    r" )?(?:missing|absent|lacking|left open|omitted)$",
    r"[^;]{1,80} (?:is|are) not part of (?:that|this|it|them|these)$|(?:which|that|this) (?:is|are) not what"
    r" (?:you|i|the question)\b",
    rf"{SOURCES} (?:is|are) not (?:where|the place|a source|meant|suited|suitable|enough)\b|{SOURCES} (?:can"
    r"|could) not (?:be used|serve|help|answer|tell|settle|say|provide)",
    r"there (?:is|are) (?:simply |just |really |currently |also )+(?:no|nothing|not enough|insufficient)"
    rf" (?:\w+ )?{INFORMATION}",
    r"(?:would|will) (?:need|require) (?:more|further|additional)\b",
    rf"(?:zero|scant|hardly any|little|scarcely any) (?:\w+ )?(?:mention|{INFORMATION}) (?:of|on|about|in|is)\b",
    r"(?:one|you|i|we) (?:finds?|sees?|gets?|comes? across) (?:no|nothing|little)\b|i (?:fail|failed) to"
    r" (?:find|see|locate)\b",
    rf"[^;]{{1,100}} (?:is|are|was|were) (?:\w+ ){{0,2}}?{TOLD}[^;]{{0,20}} (?:in|by) (?:neither|none|no"
    rf" {DOCUMENTS})\b",
    rf"there (?:is|are) no {DOCUMENTS} (?:about|on|dealing|that)\b|all (?:that )?{SOURCES} (?:say|tell|mention|give)",
    r"(?:the (?:second|first|other|latter|former)|neither)(?: one)? (?:do|does|did) not(?: either)?$",
    r"(?:the|that|this) (?:\w+ )?(?:table|figure|section|appendix|part) (?:is|was) (?:not (?:\w+ )?(?:included"
    r"|in|part|among|shown|given)|missing)",
    r"[^;]{1,100} (?:table|figure|section|appendix|part) that (?:is|was) not (?:part of|in|among|included)",
    r"(?:i|we) (?:can|could|would|will) only (?:guess|speculate)\b|i am coming up (?:empty|short|blank)\b",
    rf"no (?!{RESULT})[\w ]{{1,40}}? (?:in|from|within) (?:either|any|the|these|both) (?:of the"
    rf" )?{ADJECTIVES}{DOCUMENTS}$",
    r"(?:but|and) (?:none|nothing) (?:about|on|regarding)\b|[\w -]{1,60} (?:gets?|receives?|finds?) no"
    r" (?:mention|coverage|discussion)\b",
    rf"[\w -]{{1,60}} (?:goes|go) (?:unreported|unmentioned|unstated) in {SOURCES}|{SOURCES} (?:is|are) mum\b",
    r"(?:the )?(?:question|topic)? ?(?:out of|outside the|outside|beyond the|not in) scope\b",
    r"there (?:is|are|was) no (?:indication|mention|description|account|hint|clue|word|explanation|discussion"
    r"|details?|information|statement|reference)\b",
    rf"not (?:something|anything|an? (?:topic|subject|matter)|what|one) (?:that |of )?(?:{SOURCES}|these|they)\b",
    rf"(?:neither|none) of the (?:\w+ ){{0,2}}reports (?!{ACTS}){TELL}",
    rf"(?:{SOURCES}|the authors|the (?:\w+ )?(?:study|report)) (?:gives?|states?|names?|specif\w+|mentions?"
    rf"|lists?) no (?!{RESULT})[\w-]+(?: [\w-]+)?$",
    rf"[^;]{{1,80}} (?:is|are) (?:something|one thing|an? \w+) (?:that )?(?:neither|no|none)\b[^;]{{0,40}}?"
    rf" (?!{ACTS}){TELL}",
    r"[^;]{1,80} can only be answered (?:with|by|from)\b",
    # A search without success.
    r"(?:an?|my|the|any) (?:[\w-]+ ){0,2}?(?:reading|search|review|look|check|inspection|examination"
    r"|scan)\b[^;]{0,60}? (?:turn|bring|yield|reveal|show|find|give|come|produce|uncover)\w*"
    r" (?:up )?(?:no|nothing|none|empty|short|blank)\b",
    r"(?:but )?(?:without (?:success|luck|finding|result)|to no avail|in vain|with no (?:success|luck|results?)"
    r"|(?:found|see|saw) none"
    r"|no(?:thing)? (?:(?!effect|difference|gain|change|improve|evidence|correlat|benefit)\w+ ){0,2}?found$"
    r"|(?:have|has|had|could|can|did|do) not (?:been able to )?(?:find|found"
    r"|see|seen|locate|located|spot)\b"
    r"|not that (?:i|we) (?:can|could)|(?:out of|outside the) scope\b|off[ -]topic\b|no (?:luck|success"
    r"|match(?:es)?|hits?)(?: (?:there|here))?|(?:drew|draw|came up|come up) (?:a )?(?:blank|short))",
    r"(?:it|that|this|they|these|there|none|the answer|the (?:information|detail|figure|number|value)) (?:is"
    r"|are|was|were) (?:simply |just |\w+ly )?"
    r"(?:not|nowhere) (?:there|here|in (?:there|here|them|it|either)|among them|to be (?:found|seen)|anywhere)\b",
)
