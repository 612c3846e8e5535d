"""How English refuses: who (the papers, I) cannot or does not give what (the answer, the thing that was asked).

The patterns are matched at the start of a clause in which contractions are expanded and quotations replaced
by ``QUOTED`` (``refusal.clauses``), so that reported speech ("the model says that it cannot answer") and
conditions ("when the context does not contain the answer") do not match.
"""

from mlx_ragtune.scoring.answers.refusal_english_absence import ELSEWHERE
from mlx_ragtune.scoring.answers.refusal_english_words import (
    ABSENT,
    ACTS,
    ADJECTIVES,
    ADVERBS,
    ANSWERED,
    ANY_SUCH,
    DESCRIBE,
    DOCUMENTS,
    END,
    GIVEN,
    INABILITY,
    INFORMATION,
    INTRO,
    NO_INFORMATION,
    NOT,
    RESULT,
    SHOWN,
    SOURCES,
    STRONG_OBJECT,
    TELL,
    TELL_WEAK,
    THE_QUESTION,
    TOLD,
    TOLD_SURELY,
    WEAK,
    WHICH,
)
from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED, Grammar

_STRONG = (
    rf"{INABILITY}(?: (?:to|with|on|about|for|you|me|us)){{0,3}}{STRONG_OBJECT}",
    rf"(?:{THE_QUESTION}|(?:the|an|any) (?:\w+ ){{0,3}}?answer(?: to {THE_QUESTION})?)"
    rf"(?:,? (?:of|about|on|to|how|who|what|which|whether|why|when|where|as) [^;]{{1,120}}?)?,? (?:simply |clearly )?"
    rf"(?:(?:can|could) (?:therefore |thus |hence |so )?not (?:\w+ly )?(?:be |been )(?:\w+ly )?{ANSWERED}"
    r"|(?:is|was|remains?|stays?|goes) (?:therefore |thus |left )?(?:not (?:\w+ly )?(?:answerable|answered"
    r"|covered|addressed)"
    r"|unanswerable|unanswered|impossible to answer)|(?:has|have) no answer|is not one (?:that )?(?:i|we|the))",
    r"(?:there is |there was |there can be |i have |i see |i found |i can give |i can offer |we have |they"
    r" (?:offer|give|provide) )?no (?:\w+ )?answer"
    r"(?:$| (?:is|was|can|could|to|here|in|from|available|for (?:this|that|the)) ?(?!extraction))",
    r"(?:i|we) (?:must|have to|will have to|need to|should|would|had better|am going to|choose"
    r" to)?\s?(?:decline|refrain|abstain|pass)\b",
    r"(?:it is |that is |this is |it is simply )?(?:not possible|impossible) (?:for me |here )?to (?:answer"
    r"|reply|respond)\b",
    r"(?:i|we) (?:do|did) not (?:\w+ly )?(?:know|have (?:an|the|any) answer)(?:$| (?:the|an) answer| this| that$)",
    rf"{SOURCES},? {ADVERBS}(?:(?:do|does|did) not {ADVERBS}(?:contain|provide|include|have|give|offer|hold"
    rf"|supply|allow|permit) {ANY_SUCH}"
    r"(?:answers?\b|(?:information|details?|context|data|evidence) (?:\w+ )?to (?:be able to )?(?:answer"
    r"|address|respond))"
    rf"|(?:is|are) (?:not sufficient|insufficient|not enough) to answer|(?:do|does|did) not answer {THE_QUESTION})",
    r"(?:unanswerable|not answerable)(?:$| (?:from|given|with|based|on|in|by|using|here)\b)",
    r"(?:can not|unable to|could not) answer(?:$| (?:this|that|it|the question|your|from|based|with|given"
    r"|using|because|here)\b)",
    r"(?:an?|any|the) (?:\w+ ){0,2}?(?:answer|reply|response) (?:is|was|seems) (?:\w+ly |therefore |thus |hence"
    r" )?(?:not (?:\w+ly )?"
    r"(?:possible|feasible|available)|impossible|unavailable|out of reach)",
    r"(?:so )?(?:the|its|this) (?:\w+ )?(?:answer|question) (?:is|was|remains|stays) (?:\w+ )?(?:unknown"
    r"|unclear|open|unanswered|undetermined|not known)\b",
)
_SILENT = (
    # The sources do not tell.
    rf"{SOURCES},? {ADVERBS}(?:{NOT} {ADVERBS}(?!{ACTS}){TELL}|{NOT} {ADVERBS}(?!{ACTS})\w+"
    rf"|neither {TELL}|(?:is|are|was|were|remains?|stays?) {ADVERBS}(?:silent|mute|quiet|vague|unclear"
    r"|unhelpful|unrelated"
    r"|irrelevant|of (?:no|little) (?:help|use|assistance)|no help|not (?:about|concerned|related|relevant"
    r"|clear|helpful|specific|explicit"
    r"|conclusive|informative|sufficient(?:ly)?|enough)|insufficient(?:$| to| for)|inconclusive|missing(?!"
    r" (?:in|for|from) (?:some|many|most|a |\d)))"
    r"|(?:lacks?|lacked|omits?|omitted|leaves?|skips?|miss(?:es)?|stops? short) "
    r"|(?:contain|provide|include|offer|have|has|say|make|supply|hold|show|give|list|tell|present|mention"
    r"|do)(?:s|d|ed)?(?: us| me)?"
    rf" {ADVERBS}(?:absolutely |almost |next to )?(?:no|nothing|none|zero)\b(?! {RESULT})|(?:report|state"
    r"|disclose|reveal"
    r"|indicate)(?:s|d|ed)? "
    rf"(?:no (?:\w+ )?{INFORMATION}|no such|nothing (?:about|on|of|regarding))"
    r"|(?:do|does|is|are) neither)",
    # The authors, a study, it or they do not tell: only verbs of telling.
    rf"{WEAK},? {ADVERBS}(?:{NOT} {ADVERBS}{TELL_WEAK}|neither {TELL_WEAK}|(?:is|are|was)"
    rf" {ADVERBS}(?:silent|mute|not about|of no (?:help|use|assistance)|no help)"
    r"|(?:gives?|gave|provides?|provided|offers?|contains?|says?|makes?|leaves?|has|have|had) (?:no (?:\w+"
    rf" )?{INFORMATION}"
    rf"|no such|nothing (?:about|on|of)|it open|this open|[^;]{{1,80}} (?:unspecified|unstated|open|unanswered"
    r"|unnamed|unmentioned|unreported))"
    rf"|(?:do|does|did) not {ADVERBS}(?:contain|include|provide|have|give|offer) {ANY_SUCH}(?:{INFORMATION}"
    r"|anything))",
    rf"(?:but|and|nor|which|who) (?:{NOT} {ADVERBS}{TELL_WEAK}|(?:do|does) not (?:provide|give|include|contain) )",
    rf"(?:{QUOTED}|(?:the|this|that|each|either) (?:study|work|report|survey)),? {ADVERBS}{NOT} {ADVERBS}"
    rf"(?:(?:provide|contain|include|give|offer) {ANY_SUCH}{INFORMATION}|provide an? )",
    rf"{QUOTED},? {ADVERBS}{NOT} {ADVERBS}(?:contain|provide|include|name|give|offer|present)\b(?! any"
    rf" (?!{INFORMATION}))",
    # None of the sources tells.
    rf"(?:none|neither|no one|not one) of {SOURCES},? {ADVERBS}(?!{ACTS})(?!(?:is|are|was|were|has|have|had"
    r"|can|could|do|does|did)\b)\w+s?\b",
    rf"(?:none|neither|no one|not one|not a single one|not any|no part) of {SHOWN}(?: i have| i was given)?,?"
    rf" {ADVERBS}"
    rf"(?:(?:is|are|was|were) (?:about|concerned|related|relevant)|{TELL}|(?:has|have) (?:any|the|an))",
    rf"(?:nothing|nowhere|not a word|no part|none|neither)[^;]{{0,40}}? (?:in|from|among|within|across) {SOURCES}",
    r"(?:neither|no|not a single|not one) (?:other |single |provided |given |of the"
    rf" )?{ADJECTIVES}(?:{DOCUMENTS}){WHICH} {ADVERBS}"
    rf"(?:{TELL}|(?:is|are|was|deals?) (?:about|with|concerned|related|relevant))",
    rf"(?:neither|none|no one) (?:of (?:them|these|those|the two|which) )?(?:does|do|did|{TELL}\w*s)\b",
    r"(?:nothing|little|not much|no word) (?:at all )?(?:is|was|has been) (?:\w+ly )?(?:said|mentioned|stated"
    r"|reported|written|given|found)",
    # There is no information; I have none.
    r"(?:there (?:is|was|are|were|seems to be|appears to be|does not seem to be|exists|has been) |(?:i|we)"
    rf" (?:can |could |did )?(?:see|find|found|have|had|got|possess|located?) )?{NO_INFORMATION}",
    r"(?:there (?:is|was|seems to be|appears to be) |i (?:can )?(?:see|find|found) )?no (?:\w+ )?(?:mention"
    r"|discussion) (?:of|about)\b",
    rf"there (?:is|are|was|were|does|do|did) not (?:appear to be |seem to be |exist )?{ANY_SUCH}{INFORMATION}",
    rf"there is (?:just |simply )?nothing\b[^;]{{0,80}}?\b(?:in {SHOWN}|about|on)\b",
    r"there is (?:no way|no basis|no means)|(?:no|i have no|there is no) (?:idea|clue)\b",
    r"(?:there is |there are |there was |i have |we have |i found |they have |it has |that is |this is |simply"
    r" ){0,2}(?:not enough|insufficient|too little|not sufficient|no sufficient) (?:\w+ )?"
    r"(?:information|context|details?|data|evidence|material|basis)(?:$| (?:to|for|in|here|available|provided"
    r"|given|about|on|is|was|are|were)\b)",
    r"(?:i|we) (?:\w+ )?(?:do|did) not (?:actually |really |currently |\w+ly )?(?:know|have|see|find|possess"
    r"|spot|come across|get)\b",
    r"(?:i|we) (?:have |had |could |can )?(?:found|find|see|saw|spotted|located|give|offer) (?:no|nothing"
    r"|none)\b(?! (?:significant|effect|difference|gain))",
    r"(?:found|finding|with no|i come up with|came up) (?:nothing|empty|no (?:mention|answer|information))\b"
    r"|(?:could|can|did) not (?:find|locate|see) (?:any(?:thing|where|one)|any (?:mention|information|answer"
    r"|passage|reference|details?|statement|relevant|such|sign)\w*|it|the answer|an answer|that|this)\b",
    rf"{INABILITY}",
    r"(?:i (?:can|could|will|would|may) not|i (?:am|was) (?:not able|unable) to|i (?:am|was|would) not (?:be"
    r" )?able to|can not|could not|unable to|not able to) "
    r"(?!stress|emphasi|overstate|recommend|help but|be merged|be trained|wait|agree|be used)(?:be )?\w+\b(?:"
    r" (?:out|up|that|this|it|anything|any|from|in|to|what|which|who|how|the|an?|you|based|with|on|whether"
    r"|when|why|where)\b|$)",
    r"(?:i|we) (?:lack|miss) (?:the|any|enough|sufficient|such|information|access|data)",
    r"i (?:am|was) not (?:aware|sure|certain|familiar|in possession|informed|given)\b",
    rf"i (?:do|did) not (?:think|believe|suppose|see how|see where|see that) (?:that )?(?:{SOURCES}"
    rf"|[^;]{{1,100}} (?:is|are|was|were) (?:\w+ly )?{TOLD})",
    rf"it (?:does|do) not (?:look|seem|appear) (?:like|as if|as though|that) (?:{SOURCES}|[^;]{{1,100}} (?:is"
    rf"|are|was|were) (?:\w+ly )?{TOLD})",
    rf"(?:but |while |whereas |and )(?:all |all of )?{SOURCES} (?:\w+ly |all |both )*(?:only|just|merely|solely)\b",
    rf"(?:{WEAK}|{SOURCES}),? (?:appears?|seems?) (?:\w+ly )?not to\b",
    rf"[^;]{{1,200}}? (?:information|knowledge|something|details?|data|facts?|material|passages?|sources?)"
    rf" (?:that |which )?(?:(?:is|are|was|were) not (?:\w+ )?(?:in|among|within|part of|from|by) {SHOWN}"
    rf"|{SOURCES} {ADVERBS}{NOT} )",
    r"(?:one|you|i|we|it) would (?:need|have to (?:see|read|look|consult)|require)\b",
    rf"nor (?:do|does|did|is|are) (?:{SOURCES}|any|it|they)",
    r"(?:it is |that is |this is |it would be |it seems |it was )?(?:simply )?(?:not possible|impossible|not"
    r" feasible|hard|difficult) (?:for me )?to "
    r"(?!tell [^;]{1,60} apart)(?:tell|say|determine|know|infer|conclude|give|state|identify|find|establish"
    r"|judge|derive|specify|name|work out|deduce|decide)\b",
    # It is not told in the sources.
    rf"(?:(?!.{{0,300}}\b(?:that|which|who) (?:is|are|was|were|can|could) not)[^;]{{1,300}}? )?(?:is|are|was"
    rf"|were|has been|have been|be|being|gets?|appears?) (?:\w+ly )?(?:not|never|nowhere) {ADVERBS}"
    rf"(?:{TOLD_SURELY}{END}|{TOLD}\b[^;]{{0,60}}?\b(?:in|by|from|within|of|to|among|with|on|anywhere"
    rf"|across) (?:any of |either of |anywhere in )?{SHOWN}(?:$|[ ,])|(?:something|a topic|a subject|one of"
    rf" the) [^;]{{0,40}}?{SOURCES})",
    rf"[^;]{{1,300}}? (?:does|do|did) not (?:appear|occur|feature|figure|come up|turn up|show up|seem to"
    rf" be)\b[^;]{{0,40}}?\b(?:in|among|within) (?:any of )?{SHOWN}",
    rf"(?!.{{0,300}}\b(?:that|which|who) (?:can|could) not)(?:[^;]{{1,300}}? )?(?:can|could) not (?:be "
    rf"|therefore be )(?:\w+ly )?{ANSWERED} (?:\w+ )?(?:from|with|based on|in|by|on|using|out of) (?:[\w"
    rf" ]{{0,20}}?{SOURCES}|(?:them|these|it|here)$)",
    rf"[^;]{{1,300}}? (?:is|are|was|were|has been|have been|remains?|stays?) (?:\w+ly )?(?:missing|absent"
    r"|omitted|left out|left"
    r" out of|left"
    r" open|left unspecified|left unstated|unspecified|unstated|undisclosed|unreported|unmentioned|unknown"
    r"|unclear|uncertain|open)"
    rf"(?: (?:from|in|by|within|given|based on|of) (?:any of )?(?:{SOURCES}|here))",
    rf"[^;]{{1,300}}? (?:is|are|was|were|remains?|goes|go|stays?|is left|are left) (?:left )?(?:unspecified"
    rf"|unstated|undisclosed|unreported|unmentioned|unanswered){END}",
    r"(?:it is |it remains |that is )?(?:not clear|unclear|not known|unknown|uncertain|not evident|not"
    rf" apparent) (?:from|in|based on|given|according to|on the basis of) {SHOWN}",
    # Fragments.
    rf"(?:it is |that is |this is |they are )?(?:not|nowhere|never) (?:\w+ly )?{TOLD_SURELY}(?:{END}|"
    rf" (?:anywhere|here)\b| (?:in|by|from|within|among) {SHOWN})",
    r"(?:it is |that is |this is |they are |is |are |was )?(?:not|nowhere) (?:\w+ly )?(?:found|available|in"
    rf"|among|within|part of|from)\b (?:in |within |from )?(?:any of )?{SOURCES}",
    r"(?:it is |that is |this is |it remains )?(?:not found|not enough info|unknown|undetermined|not known|not"
    r" clear|unclear|no idea|not"
    r" available|not given|n/a|no data|no information)[ ,]*$",
    r"(?:the )?(?:(?:requested|relevant|needed|desired|necessary|required|exact|specific) )?(?:answer"
    r"|information|details?|data|figure|value|number)s? (?:is |are |was |were )?(?:not|un)(?:"
    r" \w+ly)? ?(?:found|available|provided|given|stated|specified|present|contained|in|included|among)\b(?!"
    r" (?:at|until|to|for) )",
    r"(?:no|nothing) (?:relevant |such |matching |useful |specific |further |related |pertinent"
    rf" )+(?:{INFORMATION}|passages?|sections?|excerpts?|documents?|papers?|contexts?|found|was|in|here|is)\b",
    r"nothing (?:on|about|regarding|concerning|relevant|related)\b[^;]{0,80}",
    rf"(?:no|nothing) {INFORMATION} (?:regarding|concerning|on|about) [^;]{{1,120}} (?:was|were|is|are|could"
    r" be|can be) (?:\w+ )?(?:found|given|provided|available|present|located|identified)",
    r"no (?:answer|determination|conclusion|statement) (?:can|could) be\b",
    r"the answer to [^;]{1,80} (?:is|was) not ",
    # Outside the scope.
    rf"(?:(?:this|that|it|the|your|which|such)\b[^;]{{0,80}}? (?:is|falls?|goes|go|lies?|are|seems|appears"
    r"|exceeds) (?:\w+ly |well |far )?)?(?:outside|beyond|out of|not within)(?: of)?"
    r" (?:the )?(?:scope|what|range|reach|remit|coverage|subject|information|knowledge|material|evidence"
    rf"|{SOURCES}|my)\b",
    r"(?:the|this|that|your|its?)\b[^;]{0,60}? exceeds? (?:the scope|what)",
    # More would be needed.
    r"(?:i|we) (?:would |will |do )?(?:need|require|have to see) (?:more|further|additional|another|the full"
    r"|access)\b|"
    r"(?:more|further|additional) (?:\w+ )?(?:information|context|details?|material|sources?) (?:would|is|are"
    r"|will|may) (?:be )?(?:needed|required|necessary)",
    r"(?:i|we) (?:will|would|can|do|want|prefer|should|had)(?: rather| prefer)? (?:not|to not) (?:to"
    r" )?(?:guess|speculate|make|invent|attempt|want to guess)\b",
    # Absence of something from the sources, however it is said.
    rf"(?!(?:the|an?|its|their|our) [\w -]{{1,40}}? (?:has|have|had) no access)(?!.{{0,200}}\b(?:that|which|who"
    r"|whose) (?:(?:is|are|was|were|do|does|did|has|have|can|could) )?(?:not"
    rf"|no)\b)[^;]{{0,120}}?\b{ABSENT}\b(?! (?:support|used|trained|seen|ranked|shared|merged|based))"
    rf"[^;]{{0,80}}? (?:in|from|within|by|among|on|to|with|across|anywhere in) {GIVEN}(?:$|[ ,])",
    rf"(?!.{{0,200}}\b(?:that|which|who|whose) (?:do|does|did|has|have|can|could|never)\b)(?:(?!\b(?:that|which"
    rf"|than|who)\b)[^;]){{0,60}}?{GIVEN}(?:(?!\bthat\b)[^;]){{0,40}}?\b(?:not|never|nothing|no|neither|hardly"
    rf"|scarcely)\b[^;]{{0,20}}? (?:mention|say|state|specify|report|tell|explain|discuss|address|cover"
    r"|describe|answer|give|disclose)\b",
    rf"(?:{GIVEN}|what you (?:have )?(?:gave|sent|shared|provided|showed|given|shown)(?: me)?|what i (?:have"
    rf"|was given|can see)),? {ADVERBS}(?:(?:provides?|has|have|offers?|gives?|contains?|says?|includes?"
    r"|holds?) (?:\w+ )?(?:insufficient|too little|little|nothing|no|not enough|scant)\b"
    r"|(?:is|are|remains?|stays?) (?:\w+ )?(?:mute|silent|quiet|unrelated|irrelevant|insufficient|of no|not"
    r" about|too|not enough)\b|(?:leaves?|left) (?:it|this|that|the)\b)",
    r"nothing (?:here|there|in there|in here)\b|(?:is|was|are) not (?:in|among|on) (?:there|here|my)\b"
    r"|[^;]{1,80} (?:is|was|are) not (?:in|among) (?:there|here|it|them|my \w+)\b",
    r"(?:i|we) (?:come|came) (?:up|away|out) (?:empty|with nothing)|(?:i|we) (?:have|had) not (?:found|seen"
    r"|come across|been able|been given|spotted|located|read)\b",
    r"(?:i|we) (?:would|will|could)(?: only| just)? (?:be guessing|have to guess|be speculating|need to guess)\b",
    rf"in (?:none|neither|not one) of {SOURCES}",
    r"(?:there is )?no answer (?:that )?(?:i|we|one) (?:can|could)\b",
    r"(?:i|we|you|one|the reader|readers) (?:am|are|is|was|were|have been|has been) not (?:told|given|informed"
    r"|shown|provided)\b",
    rf"{SOURCES} (?:end|ends|stop|stops|break off|breaks off|(?:are|is) cut off) (?:before|short)\b",
    rf"{SOURCES} {ADVERBS}(?:only|just|merely|solely) {DESCRIBE}",
    r"(?:none|nothing|little) of (?:this|that|it|these|them) (?:is|are|was|were|has|have) (?:about|related"
    r"|relevant|anything|to do)\b",
    r"(?:nothing|no \w+) (?:that )?(?:i|we) (?:was|were|have|had|am|can|could|got|received)\b",
    r"it (?:is|was|has been) (?:not|never|nowhere) (?:\w+ly )?(?:stated|said|reported|specified|mentioned"
    r"|disclosed|given|indicated)"
    r" (?:which|whether|how|what|who|when|why|where|if)\b",
    r"(?:there is )?not enough (?:here|there|in)\b",
    r"(?:i|we) (?:must|have to|will have to|will|would|need to|should|shall|can only)?\s?leave (?:this|that|it"
    r"|the|your)\b",
    r"(?:this|that|it|your question) (?:is|was) not (?:one of|among|a question|something|anything|related)\b"
    r"|(?:this|that|it|your question|the question)\b[^;]{0,60}? (?:has|have) nothing to do with\b",
    r"(?:but|and|though|yet) not (?:its|the|their|his|her|a|an|how|why|what|when|who|where|which|any|on|about"
    r"|for|of|that|this)\b",
    rf"(?:and )?(?:no|not any|neither) (?:such )?[\w -]{{1,40}}? (?:is|are|was|were) (?:\w+ )?(?:given"
    r"|described|mentioned|reported|stated|provided|discussed|cited|named|listed|found|covered|included)"
    rf" (?:\w+ )?(?:in|by|within|among|anywhere in) {SHOWN}",
    rf"(?:nobody|no one|one|you) (?:could|can|would be able to) (?:tell|say|know|answer)\b[^;]{{0,20}} from"
    rf" {SOURCES}",
)
_THEY = (
    rf"(?:{SOURCES}|they|these|those|both|all of them|each|the (?:others?|rest|former|latter|closest|nearest"
    rf"|only)[\w ]{{0,30}}?|it|one"
    rf"|{WEAK}|{QUOTED}|(?:one|two|some|several|most|the first|the second|another|the other) (?:of them|of"
    rf" {SOURCES}|papers?|excerpts?|passages?)?)"
)
_ADJUNCT = (
    r"(?:according to|based on|with|using|per|from|in|within|on the basis of|judging (?:from|by)|given|across"
    r"|throughout"
    rf"|among)(?: only| just)? (?:{SHOWN}|{QUOTED}|(?:the|this|that|what|my) (?:limited )?(?:information"
    r"|context|knowledge|evidence)(?: (?:provided|given|available|at hand|i have|shown|supplied))?|what (?:i|is"
    r"|has|was"
    rf"|you) [^;]{{1,40}})(?: alone| only)?$"
    rf"|(?:both |namely |titled |that is |i\.e\. )?{QUOTED}(?:,? (?:and|or|nor) {QUOTED}){{0,3}}$"
)
_META = (
    rf"(?:{QUOTED}(?: and {QUOTED})?|these|those|they) (?:is|are) the only\b",
    r"the (?:closest|nearest|most relevant|only related)\b",
    rf"[^;]{{1,100}}? (?:is|are|was|were|get|gets) (?:\w+ )?(?:discussed|named|mentioned|described|covered|introduced"
    rf"|examined|treated|addressed)\b[^;]{{0,40}}? (?:in|by) (?:{SOURCES}|{QUOTED})",
    rf"{SOURCES} (?:do |does |\w+ly )?(?:give|name|list|report|provide|mention|show|contain|include|present)s?"
    rf" (?![^;]{{0,80}}\bthat\b)",
    r"(?:and )?(?:is|are) (?:only |all |mainly )?(?:about|on|concerned|devoted|limited)\b",
    r"it (?:is|remains|was) (?:not clear|unclear|not known|unknown|uncertain"
    r"|an open question) (?:which|whether|how|what|who|when|why|where)\b",
    r"[^;]{1,60} (?:is|are|was|were) (?:\w+ly )?(?:mentioned|discussed|described|covered|named|touched on)$",
    r"(?:having |when |while |by |on |upon |after )?(?:\w+ly )?(?:looking|looked|reading|read|searching"
    r"|searched|going|gone|checking|checked"
    r"|scanning|reviewing|reviewed|examining|examined) (?:\w+ )?(?:at|through|for|over|into|in|across|carefully"
    r"|again|the|these|both|all)\b[^;]{0,80}$",
    r"(?:rather than|instead of|to avoid|without) (?:\w+ )?(?:guess|speculat|invent|mak|mislead|fabricat)",
    r"i (?:know|have|see|had) (?:only|just)\b|i (?:was |am |have )?(?:only|just) (?:given|shown|have|had|see"
    r"|saw|got|was|received|know)\b|(?:for|on|of)"
    r" [\w -]{1,40}$|(?:and )?the (?:second|other|first|third|latter) (?:\w+ )?(?:about|on|with|to)\b",
    r"(?:this|that|it|such \w+|the (?:answer|detail|information)) (?:would|may|might|should|could|must|will|is"
    r" likely to) (?:\w+ )?(?:be|appear|stand|come|lie|have been)\b",
    r"(?:the|this|that|your) question (?:itself )?(?:presuppos|assum|suppos|impl|suggest|ask|concern|relat"
    r"|refer|pertain|seem|touch)",
    r"(?:what|how|whether|why|which (?!means|is|are|was|lets|makes|gives|leads|allows|impl|suggest"
    r"|shows)\w+)\b(?![^;]{0,100} (?:is|are|was"
    r"|were) \w)[^;]{0,100}$",
    r"i (?:can|could|will|would) (?:only |still |gladly )?(?:provide|give|offer|describe|explain|outline)(?:"
    r" you)? (?:with )?(?:a summary|an overview|information|details|what)",
    rf"(?:the )?user\b|my (?:knowledge|information|view|access|context|input|instructions?)\b|{SOURCES} (?:is"
    r"|are) (?:\w+ly )?[\w-]+$"
    r"|[^;]{1,80} (?:is|are|was|were) (?:only |\w+ly )?(?:described|mentioned|referred to|called|characterized)"
    r" as\b|[^;]{1,60} (?:is|are) (?:said to be|listed|given|shown|found) in (?:the )?(?:table|figure|section"
    r"|appendix)\b|which (?:would|might|may|could|should) (?:\w+ )?(?:list|give|contain|state|include|report"
    r"|show|tell)\b",
    r"(?:this|that|it) is a question\b|i (?:can |could )?(?:see|read) (?:how|that|what|why)\b|(?:i|we) (?:\w+"
    r" )?(?:apologi|regret|appreciate|understand)\w*|(?:i am |i"
    r" would be |always )?(?:happy|glad"
    r"|pleased) to\b|i (?:was|have been|am) (?:given|shown|handed)\b"
    r"|i (?:can|could|may|am able to|would be able to) (?:\w+ly |also |still |however |instead )?(?:explain"
    r"|describe|summarize|outline|tell|show|give|share|discuss|talk|help|offer|provide)\b|i am (?:only"
    r" )?(?:restricted|limited|confined|bound|allowed|permitted|asked|told|meant|supposed"
    r"|instructed)\b|(?:(?:\w+ )?i|we) (?:may|can|must|should) only\b",
    r"(?:in the absence of|for (?:lack|want) of|absent|owing to|due to|because of|lacking|given the lack of)"
    r" [^;]{0,60}?"
    rf"(?:{INFORMATION}|context|this|that|it)$",
    r"[^;]{1,80}? (?:may|might|could|would|should|must|will|is likely|are likely|is probably|is presumably|is"
    r" perhaps) (?:well |also |perhaps |\w+ly )?(?:to )?(?:be |have been )?(?:\w+ly )?"
    r"(?:in|given|found|reported|described|listed|stated|available|included|mentioned|published|part of"
    r"|documented|specified)\b[^;]{0,40}?"
    r"\b(?:paper|section|sections|appendix|version|supplement|publication|literature|elsewhere|source|methods"
    r"|text|article|code|repository|table)\b",
    r"(?:perhaps|maybe|possibly) (?:another|other|a different|some other|the (?:full|original|appendix|authors"
    r"|rest))\b",
    rf"[^;]{{1,60}} (?:is|are|was|were) (?:\w+ly )?(?:mentioned|named|discussed|described|noted|touched on)"
    r" (?:in passing|briefly|by name|only)"
    rf"|[^;]{{1,60}} (?:appears?|occurs?|features?) in (?:{SOURCES}|{QUOTED})$",
    rf"{SOURCES} (?:was|were|have been|has been) (?:\w+ly )?(?:checked|searched|reviewed|read|examined|scanned)\b",
    rf"(?:{QUOTED}|{SOURCES}) explains? (?:how|why|what)\b",
    r"only [^;]{1,80} (?:is|are|was|were) (?:reported|given|mentioned|described|stated|covered|listed"
    r"|discussed|provided)",
    r"i (?:would )?(?:love|like|wish|want|recommend|suggest|advise)\b|the (?:closest|nearest|most relevant"
    r"|only related)\b|the answer (?:would|must|may|might|could"
    r"|should|will) (?:have to |need to )?(?:be|come|lie|require)\b|whoever\b",
    r"(?:regarding|concerning|as (?:for|to|regards)|with (?:regard|respect) to|on (?:the question|that)"
    r"|about(?! (?:half|a|an|one|two|three|twice|as)\b)"
    r"|when it comes to)\b",
    rf"(?:{_THEY}),? (?:and |\w+ly |also |do |does |may |might |can |instead |all |only |well ){{0,3}}{DESCRIBE}",
    rf"(?:{_THEY}) (?:only|merely|just|solely|instead|simply|(?:is|are) (?:only|limited|restricted)|limits? \w+)\b",
    r"(?:you (?:asked|ask|want|wanted|may|might|could|would|can|should|need|are asking)|the question (?:asks"
    r"|is about|concerns|was|of)"
    r"|your question|i (?:have )?(?:\w+ly )?(?:examined|studied|reviewed|looked|searched|read|checked)|i"
    r" (?:looked|searched|read|checked|went|reviewed|scanned|have (?:looked|searched|read"
    r"|checked|gone|reviewed|only))"
    r"|(?:having|after) (?:reading|read|checked|searched|looked|gone)|all (?:i|that i) (?:have|see|can)"
    r"|i (?:would|will|can|am|could)(?: be)? (?:\w+ )?(?:happy|glad|help|assist|(?:tell|show) you (?:about"
    r"|what|more|how)|talk about|offer|share|summarize|look|summarize"
    r"|only|answer (?:other|questions)|here|be pleased|pleased)"
    r"|please\b|let me know|feel free|thank|thanks|sorry|apolog|my apologies|consult|see the|refer to|good"
    r" question|great question|if\b|perhaps you|try\b|a look at"
    r"|as an? (?:ai|language|assistant)|as far as|based on|given (?:the|that)|since you|is there|would you|do"
    r" you|for (?:this|that|more|such|an answer)|to (?:answer|find|know|learn|get)|(?:any|an|the) answer would"
    r" be|so\b.{0,20}guess|answering|anything i|a guess|any (?:answer|reply|guess))",
)
_CONTENT = (
    r"^but the (?!paper|passage|excerpt|text|document|source|context|question|answer|other|exact)[\w-]+$|^which"
    r" is (?!not|un|about|related|beyond|out)",
    r"^(?:about |roughly |at least |up to |only )?(?:zero|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|twenty|thirty|fifty|half|twice)"
    r"(?: (?!paper|excerpt|passage|document|source|text|of)[\w-]+){0,2}$",
    r"^yes$",
    r"^but (?!not|nothing|none|alas|sadly|never|only|it|this|that|i\b|please|if|feel|they|the\b|sorry"
    r"|unfortunately|no\b|maybe|perhaps|without)"
    r"[\w-]+(?: [\w-]+){0,2}$",
    r"(?:but |however,? |still |yet )?(?:the (?:correct |right )?answer (?:is|was|would be)|it (?:is|was|were)"
    r" (?:\w+ )?\d|(?:it|he|she) (?:is|was|were) (?!not|about|only|un|im|also|possible|probably|out|beyond|a"
    r" good|just|clear|hard|diff))",
    r"\b(?:general(?:ly)?|typically|usually|commonly|widely known|well known|i (?:think|believe)|likely"
    r"|probably|from my (?:own )?knowledge|background knowledge)\b",
    r"(?:but |however,? |still |yet )?(?:it|they|the (?:paper|papers|authors?|study|article|text|excerpts?"
    r"|passages?)) (?:do |does |also )?(?:say|state|report|show|suggest|note|impl|find|found|give|estimate"
    r"|conclude|measure)\w* (?:that|a|an|\d|the)\b",
)
_CONDITION = r"(?:and |or |but |so |then |e g )?(?:if|when|whenever|unless|in case|where|once|until)\b"
_CONCESSION = r"(?:although|though|while|whereas|even though|because|since|as|despite|even if)\b"
_SPLIT = (
    r"\s(?=and \w+[a-z]s (?:all|both|each|every|its|their|only|two|three)\b)|"
    r"\s(?=and (?:explains|attributes|argues|concludes|assumes|adds|builds|replaces|leaves|averages|starts"
    r"|stops|follows|measures|predicts|blames|compares|contrasts|combines|splits|draws|selects|picks|merges"
    r"|drops|removes)\b)|"
    r"\s(?=and [a-z]+ \d)|"
    r"[,;:()\[\]—–]+| - |\s(?=(?:but|however|because|since|although|though|even though|when|whenever|if"
    r"|unless|whereas|yet)\b)"
    r"|\s(?=(?:and|so) (?:i|we|it|they|this|that|the|there|no|none|can|could|therefore|thus|hence|instead"
    r"|cannot|question|answer|found)\b)"
    r"|\s(?=and (?:(?:do|does|did|can|could|will|would|have|has) not|was|were|has|had|instead|rather|is|are|uses?"
    r"|trains?|runs?|rel(?:ies|y)|fix(?:es)?|sets?"
    r"|takes?|comput(?:es?)|appl(?:ies|y)"
    r"|evaluates?|reports?|finds?|shows?|works?|learns?|keeps?|stores?|gives?)\b)"
)

_CONTRAST = (
    r"and \w+[a-z]s (?:all|both|each|every|its|their|only|two|three)\b|"
    r"and (?:explains|attributes|argues|concludes|assumes|adds|builds|replaces|leaves|averages|starts|stops"
    r"|follows|measures|predicts|blames|compares|contrasts|combines|splits|draws|selects|picks|merges|drops"
    r"|removes)\b|"
    r"(?:but|however|yet|still|instead|rather|so|it|they|there|he|she|we|in (?:fact|general|practice)"
    r"|generally|typically"
    r"|usually|most|which (?:means|it|they)|the answer|and (?:it|they|this|that|then|instead)\b"
    r"|and (?:was|were|has|had|instead|rather|is|are|uses?|trains?|runs?|rel(?:ies|y)|fix(?:es)?|sets?|takes?"
    r"|comput(?:es?)|appl(?:ies|y)|evaluates?|reports?"
    r"|finds?|shows?|works?|learns?|keeps?|stores?|gives?)\b)\b"
)

_ASIDE = (
    r",(?: taken together| however| as (?:given|shown|provided|excerpted|they stand|it (?:happens|stands))| at"
    r" least(?:"
    r" [\w ]{1,30})?| unfortunately| sadly| regrettably| alas| in (?:fact|short)| so far as [\w ]{1,20}| i am"
    r" afraid),|,? ?\bto the best of my \w+\b,?|"
    rf",? ?\b(?:i\.e\.,?|namely|viz\.?|that is,) [^,;]{{1,120}},|[,(] ?(?:(?:titled|called|both|that is|namely)"
    rf" )?{QUOTED}(?:,? (?:and )?{QUOTED}){{0,3}} ?[,)]|"
    r",? ?\b(?:(?:as far as|from what) (?:i|we) can (?:see|tell|judge)|as (?:provided|given|supplied)(?=,)|as"
    r" far as [\w ]{1,20} goe?s?(?=,)|to (?:the best of )?my knowledge|to be (?:honest|clear"
    r"|frank))\b,?"
)

ENGLISH = Grammar(
    aside=_ASIDE,
    intro=INTRO,
    strong=_STRONG,
    silent=(*_SILENT, *ELSEWHERE),
    meta=_META,
    adjunct=_ADJUNCT,
    stated="|".join(_CONTENT),
    condition=_CONDITION,
    concession=_CONCESSION,
    contrast=_CONTRAST,
    excluded=(
        r"(?:and |but )?(?:not|nor|never|rather than|instead of)\b"
        r"|[\w' -]{1,40} (?:is|are|was|were|does|do|has) not$"
    ),
    finding=(
        rf"no (?!(?:\w+ )?{INFORMATION})[\w -]{{1,40}}s were (?:reported|recorded|noted|described|found|observed)$|"
        r"(?:the|this|that|each|either|one) (?:\w+ )?(?:paper|article|study|work|publication) (?:do|does|did) not "
        rf"(?!{ADVERBS}(?:{TELL}|go|help|get|let|make (?:any |it |clear)|seem|appear|have|do|enter|reach|reveal"
        r"|enable|allow|say|tell))"
        rf"|(?:neither|none|no) [^;]{{0,30}}? (?:attribut|consider|examin|investigat)\w*|(?:the|this|that)"
        r" (?:paper|article|study|work) (?:do|does|did) not (?:consider|treat|examin|analy|study|investigat"
        rf"|explore|compare|involve|include (?!(?:the |any |this |that |an? )?(?:\w+ )?{INFORMATION}))|"
        r"yes$|(?:neither|none|no) [^;]{1,60}? (?:report|show|find|found|see|note|observ|claim|document)\w*"
        r" (?:an? |any |the )?"
        rf"{RESULT}|"
        r"but about\b|(?:in |for |on |by |after |with |at )?(?:only |about |nearly |roughly |almost |some "
        r"|another |over "
        r"|the other |just )?\d|[\w ]{1,30} not say qtitle|(?:the )?(?:authors?|researchers|team) (?:can|could)"
        r" not explain|(?:the )?authors? (?:have|had) no (?:\w+ )?(?:explanation|idea|reason|doubt)"
        r"|(?:the|this|that|each|either) (?:study|survey|trial|experiment|questionnaire|model|method)s? did not"
        rf"|{QUOTED} did not (?:include|cover|give|provide)|no [^;]{{0,60}}?(?:\d|\b(?:above|below|more|other"
        r" than)\b)"
        r"|(?:it|this|that) (?:(?:is|was) (?:\w+ly )?(?:unrelated|not related|irrelevant) to|(?:has|had)"
        r" nothing to do with)"
        rf" (?!{SOURCES}|(?:the|your|this|that) (?:question|topic|query)|these|what|your)"
        r"|[^;]{1,80} (?:answered|unanswered|mentioned|given|named|reported) by (?:about |nearly )?(?:\d"
        r"|(?:some|many|most|half|few)\b)|(?:the )?authors?"
        r" [^;]{0,30}not mention [^;]{0,60} to the \w+s\b"
    ),
    asked=r"(?:(?:but|and|so|the question(?: of)?) )*(?:how|what|whether|which|why|where|who|when)\b",
    split=_SPLIT,
)
