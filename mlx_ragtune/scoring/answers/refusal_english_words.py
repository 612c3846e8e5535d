"""The words and phrases of which the patterns in ``refusal_english`` are made."""

from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED

ADVERBS = (
    r"(?:(?:also|both|all|just|even|ever|either|still|really|however|therefore|thus|then|themselves|itself"
    r"|alone|in fact"
    r"|at all|seem to|appear to|seems to|appears to|go so far as to|get around to|get round to|bother to|\w+ly"
    r"|as far as i can (?:see|tell)|to my knowledge)[, ]+){0,3}"
)
ADJECTIVES = (
    r"(?:(?:provided|given|supplied|available|retrieved|above|shown|following|present|current|cited|selected"
    r"|context|academic|research|scientific|attached|listed|accompanying|relevant|other|underlying|enclosed|two"
    r"|three|four|five|few|same|first|second|third|last|remaining|latter|former|single|source|original"
    r"|reference|background|input|\d+"
    r"|(?!annotated|labell?ed|poisoned|generated|compressed|masked|truncated|unlabell?ed|hashed)\w+(?:ed|ing)) ){0,4}"
)
DOCUMENTS = (
    r"(?:contexts?|passages?|papers?|documents?|documentation|texts?|sources?|notes|materials?|articles?|abstracts?"
    r"|literature|paragraphs?|fragments?|pdfs?|excerpts?|snippets?|extracts?|publications?|manuscripts?|chunks"
    r"|sections?|references|content"
    r"|search results|retriev(?:al|ed) (?:results?|chunks)|(?:parts?|portions?"
    r"|pieces?|ones?|bits|pages|lines|stuff|text)(?= (?:of it )?(?:(?:that "
    r"|which )?(?:i|we|you)"
    r" (?:was|were|am|are|have|had|can|could|got|received|gave|sent|shared|provided|showed)\b|at hand|in front"
    r" of me))"
    r"|(?:provided|given|supplied|retrieved|available|shown) (?:information|evidence|data|records?|knowledge"
    r"|pages|files|results|knowledge base)|pages)"
)
DETERMINER = r"(?:all of |any of |both of )?(?:the|these|those|this|that|all|both|any|either|my|your|our|each) "
WHICH = (
    r"(?: (?:themselves|alone|here|above|at hand|in question|listed|in front of me|"
    r"(?:that |which )?(?:i|we) (?:was|were|am|are|have|had|can|could|received|got|see)(?: been)?"
    r"(?: (?:given|shown|provided|supplied|sent|see|access|read))?(?: with| me| to| in| access){0,2}"
    r"|(?:that |which )?you (?:have |had )?(?:gave|provided|shared|supplied|sent|showed|posted|given|shown)(?:"
    r" me| us)?"
    r"|(?:that |which )?(?:was|were|is|are|have been|has been) (?:provided|given|supplied|shown|retrieved|listed)"
    r"(?: to me| to us| here)?"
    r"|(?:shared|sent|handed|passed) (?:with|to) (?:me|us)|provided|given|supplied|shown|available|retrieved"
    r"|before (?:me|us)|at my disposal|furnished|included|attached|on [\w -]{1,30}?|by [\w -]{1,30}?|[ab1-9]\b"
    rf"|(?:of |called |titled |in |from |on )?{QUOTED}(?: and {QUOTED}){{0,3}})){{0,3}}"
)
SHOWN_TO_ME = (
    r"(?:what (?:i|we) (?:have|see|got|was given|have been given|can see|received)|what (?:is|was|has been|is"
    r" been) (?:provided|given|shown|supplied|shared)"
    r"|(?:the|this|that) (?:info|information|data|evidence|knowledge) (?:provided|given|at hand|available"
    r"|supplied|here|i have|shown)|"
    r"(?:(?:the|these|those|all|any) )?(?:\w+ ){0,2}?\w+ (?:before me|at my disposal|in front of me|(?:that "
    r"|which )?i (?:was|have been|had been|am) (?:given|shown"
    r"|provided with|supplied with|handed|sent)|(?:that |which )?you (?:have )?(?:gave|given|provided|shared"
    r"|supplied|sent|showed|shown|pasted|posted"
    r"|uploaded|attached)(?: me)?)"
    r")"
)
SOURCES = (
    rf"(?:(?:the|these|those|both) (?:two |three )?\w+ (?:papers|excerpts){WHICH}"
    rf"|(?:{DETERMINER}{ADJECTIVES}|{ADJECTIVES}){DOCUMENTS}{WHICH}|{SHOWN_TO_ME})"
)
SHOWN = (
    rf"(?:{SOURCES}|the authors?|either|any of them|corpus|the corpus|them|these|it|what (?:i|we) (?:was|were|have"
    r"|am) \w+|here|there)"
)
WEAK = (
    rf"(?:the (?:\w+ )?authors?(?: of [\w ]{{1,40}}?)?|the researchers|the (?:writers|authors|researchers) of"
    rf" [\w ]{{1,30}}?|both (?:sets|groups|teams) of authors|it|they|these|those|both|(?:these|those"
    r"|the|both) (?:two|three|ones)|(?:the|this|that|each|either) (?:trial |field |case |pilot )?"
    rf"(?:study|work|report|survey)(?: {QUOTED})?|the studies|the knowledge base|(?:the (?:study|work|report)"
    rf" )?{QUOTED}"
    rf"(?: and {QUOTED}){{0,3}})"
)
NOT = r"(?:(?:do|does|did|has|have|had|can|could|would|will) not|never|fails? to|failed to)"
TELL = (
    r"(?:contain|mention|discuss|provide|include|cover|say|state|describe|address|specif|report|giv|give|answer"
    r"|explain|offer|refer|tell|cite|present|indicat|define|detail|touch|disclose|name|list|reveal|identif|treat"
    r"|deal|go into|going into|talk|show|note|quote|suppl|consider|examin|speak|quantif|elaborat|clarif|hold"
    r"|document|record|comment|relate|compare|supply|concern|involve|analy[sz]e|study|studied|investigate"
    r"|explore|bring up"
    r"|go (?:deep|far|that)|settle|resolve|spell out|allude|hint|attribute|make (?:any |it |that |this |clear)"
    r"|have (?:any|the|an|enough|sufficient|that|this|much|information|anything)|allow (?:an|any|us|me|one|for an)"
    r"|permit (?:an|any|us|me)|let (?:me|us)|enable (?:me|us)|suffice|contain|seem to|appear to|shed|support an"
    r" answer)"
)
ACTS = (
    r"(?:us(?:e|ed|es)|need|rely|relies|require|agree|overlap|train|change|claim|propose|releas|fit|match"
    r"|recommend|evaluat"
    r"|test|differ|depend|assum|find|found|need|have to|get (?!into|to|around|round|as far|that far|close|near)"
    r"|make (?:\w+ ){0,2}(?:assumption|claim|use of|difference|change)|become|increase|decrease"
    r"|reach (?!th)|exceed|matter"
    r"|affect|work|perform"
    r"|hurt|harm|slow|degrade|distract|confuse|bias|help (?!me|us|here|with|answer|in|to|you)|compare (?!them\b"
    r"|their|the two|these|those|both)|argue"
    r"|conclude|vary|grow|lead|cause|fine|run|scale|share|come"
    r"|be(?!en)|been (?!given|shown))"
)
TELL_WEAK = (
    r"(?:say(?! that)|nam(?:e|es|ed)\b|cite|mention|report|stat(?:es?|ed)\b(?! that)|specif|disclos|discuss"
    r"|describe|explain|address"
    r"|indicat|reveal"
    r"|tell\b(?! (?:\w+ ){1,3}(?:from|apart))|touch|go (?:into|there|over|beyond)|talk|deal with|speak|get"
    r" (?:to|into)|share (?:this|that|any"
    r"|details|how|what|the)|elaborat|clarif|detail\b|quantif|comment on|spell out|cover\b|giv(?:es?|en)\b(?!"
    r" up)(?! [^;]{1,40}? to (?:\w+s|the|each|any)\b)"
    r"|answer (?:this|that|the|an?\b|your|questions))"
)
TOLD = (
    r"(?:mentioned|discussed|covered|described|provided|addressed|specified|stated|reported|given|answered"
    r"|explained|disclosed|detailed|named|listed|revealed|recorded|documented|indicated|included|contained"
    r"|identified|touched (?:on|upon)|dealt with|talked about|treated|noted|spelled out|elaborated(?: on)?|defined"
    r"|raised|broached|tackled|brought up|referred to|to be found|found|available|present|part|among|in|known"
    r"|clear|evident|apparent"
    r"|answerable|possible|something|a topic|the (?:topic|subject)|one of)"
)
TOLD_SURELY = (
    r"(?:mentioned|discussed|covered|addressed|specified|stated|reported|given|disclosed|described|explained"
    r"|provided|answered|listed|answerable|spelled out|documented|indicated"
    r"|said|told|revealed|noted|named|quantified|detailed|clarified|made (?:clear|explicit)|touched (?:on|upon)"
    r"|raised|broached|tackled|taken up|brought up|gone into|elaborated(?: on)?|dealt with)"
)
INFORMATION = (
    r"(?:determination|information|info|mention|answers?|details?|discussion|data|statements?|reference"
    r"|figures?|indication"
    r"|explanation|description|account|hint|clue|word|evidence|results?|numbers?|value|comparison|basis"
    r"|material|findings?|statements?|remarks?|comments?|guidance|insights?|treatment"
    r"|content|passage|record|coverage|knowledge|idea|way|trace|sign|facts?|specifics)"
)
ANY_SUCH = (
    r"(?:(?:any|the|an?|enough|sufficient|such|relevant|specific|explicit|direct|clear|further|exact|\w+ed) ){0,3}"
)
ANSWER_VERBS = (
    r"(?:answer|say|tell|find|determine|provide|give|help|respond|reply|confirm|verify|state|name|list|locate"
    r"|see|identify"
    r"|explain|conclude|infer|know|offer|assist|speculate|guess|comment|derive|specify|report|describe|establish"
    r"|judge|decide|work out|deduce|make out|supply|address|compare|discern|ascertain|pin down|extract|reconstruct"
    r"|cite|point to|draw|come up|gather|look up|share|settle|be (?:able|certain|sure|answered|determined))"
)
ANSWERED = (
    r"(?:answered|determined|found|derived|inferred|established|given|known|provided|verified|concluded|said|told"
    r"|ascertained|stated|deduced|identified|settled|decided|located|extracted|explained|named|confirmed|gleaned"
    r"|worked out|resolved|read off|taken)"
)
THE_QUESTION = (
    r"(?:(?:this|that|the|your|such a|my|either|these) (?:\w+ ){0,3}?(?:questions?|query|request|topic|matter"
    r"|subject|point|one)"
    r"|this|that|it|you|the answer|(?:any|an|a) (?:\w+ )?(?:answer|reply|response)|anything)"
)
_REVIEW = (
    r"(?:upon|on|after|following|despite|in|from) (?:an? |my |the )?(?:\w+ ){0,2}?(?:review|reading|rereading"
    r"|inspection"
    r"|examination|search|look|check|analysis|reviewing|searching|checking|scanning|going|looking|examining)"
    rf"(?: (?:of|at|through|over|in) {SOURCES})?"
)
INTRO = (
    r"(?:(?:neither(?= ?$)|let (?:us|me) (?:see|check|think|look)|okay|ok|right|let me see|wait|in (?:that"
    r"|this) case|as a result|for this reason|in"
    r" other words|at"
    r" this point"
    r"|i (?:can|could|will|would|may|might) (?:only |just |\w+ly )?(?:confirm|say|tell you|report|state|add|conclude)"
    r"|(?:it is|it should be|it must be) (?:worth \w+ing|important to \w+|fair to say|noted|said|clear|true"
    r"|worth noting)"
    r"|(?:the|my) (?:\w+ )?answer (?:is|here is)|(?:what|all) (?:i|one) can (?:say|tell)(?: you)? is"
    rf"|(?:about|of|on|as to|regarding|concerning|for) [\w -]{{1,60}}?(?= (?:{SOURCES} (?!is|are)|there is"
    r"|there are|i|neither|nothing|none)\b)"
    r"|(?:the|my) (?:thing|point|truth|trouble|problem) is|sure|certainly|of course|hello|hi"
    r"|(?:great|good|fair|interesting|nice|excellent|tricky|tough) (?:question|point|one)"
    rf"|{_REVIEW}|and|but|so|then|thus|therefore|hence|however|yet|nor|or|also|well|h+m+|no|yes|sorry|apologies|sadly"
    r"|unfortunately|regrettably|alas|that said|honestly|frankly|answer|note|overall|instead|for that reason"
    r"|nevertheless|still"
    r"|in (?:short|summary|conclusion)|i am (?:\w+ )?(?:afraid|sorry)|i regret|it (?:seems|appears|looks)(?:"
    r" like| as if)?"
    r"|as (?:far as i can (?:tell|see)|such)|to my knowledge|i (?:have to|must|should|need to|want to|wish to"
    r"|would like to) (?:say|admit|note|inform you|tell you|point"
    r" out|confess)"
    r"|i (?:think|believe|see|note|find)|please note|consequently|accordingly|to be (?:honest|clear|frank)|"
    r"good question|after (?:reading|checking|reviewing|going through) [^,;]{1,60}?"
    r"|(?:according to|based on|per|from|in|within|on the basis of|based (?:solely|only|purely|just|strictly)"
    r" on|judging (?:from|by)|going by|given|with|by"
    rf"|looking at|using|across|throughout|among) (?:only |just )?(?:{SHOWN}|{QUOTED})(?: alone| only)?"
    rf"|without [^,;]{{1,60}}?"
    r"|apparently|evidently|my (?:only )?answer (?:has to|must|can only) be|i regret to (?:inform|tell|say)(?:"
    r" you)?|just|as (?:it stands|given|of now)"
    r"|that)[,:]? ){0,4}"
)
END = r"(?=$|[ ,]*(?:here|there|anywhere|at all|either|explicitly|directly|yet|further|to me)?$)"

INABILITY = (
    rf"(?:i|we|one|nobody|no one) (?:{ADVERBS})(?:(?:can|could|will|would|may|might) not|am not able to|are not"
    r" able to|"
    r"was not able to|am unable to|are unable to|was unable to|would not be able to|will not be able to|am not"
    r" in a position to|do not feel able to"
    r"|is not able to|find myself unable to|am at a loss to|have no (?:way|means) (?:of|to)|can neither|have"
    r" not been able to|would prefer not to|must not|should not)"
    rf" {ADVERBS}{ANSWER_VERBS}\b"
)
STRONG_OBJECT = (
    rf"(?:[ ,]*$| {THE_QUESTION}\b(?! (?:directly|exactly|fully|completely|precisely|with certainty|part|half))"
    r"| (?:from|based|using|on the|without|with (?:the|these|what|any)|in (?:the|these|any)|here|further|out of)\b)"
)
NO_INFORMATION = (
    rf"no (?:\w+ ){{0,2}}?{INFORMATION}(?:$| (?:about|on|regarding|concerning|as to|whatsoever|here|available"
    r"|for (?:this|that)"
    rf"|(?:of|for|from|to|that)\b[^;]{{0,80}}?\b(?:in|among|from|within|by) {SHOWN}"
    rf"|in {SHOWN}|(?:is|was|are|were|has been|could be|can be) (?:\w+ly )?(?:available|given|provided|mentioned|made"
    r"|found|present|offered|included|supplied|stated|to be found|contained)))"
)
RESULT = (
    r"(?:(?:\w+ ){0,2}?(?:links?|associations?|relations?|relationships?|interactions?|trends?|gains?"
    r"|improvements?|speed-?ups?|effects?|differences?|benefits?|drops?|loss(?:es)?"
    r"|degradation|advantages?"
    r"|correlations?|changes?|increases?|decreases?|failures?|errors?|overfitting|bias|credit|guarantees?"
    r"|probabilit(?:y|ies)|penalt(?:y|ies)"
    r"|support|signal|feedback|reward|weight|new|overlap|winner|attention|assumptions?))\b"
)
DESCRIBE = (
    r"(?:discuss|describ|cover|focus|concentrat|address|deal|introduc|concern|mention|center|revolve|stick|refer"
    r"|confine|restrict|talk"
    r"|treat|look at|examine"
    r"|explor|relate|pertain|(?:is|are|(?:may|might|could) (?:well )?be) (?:only |mainly |mostly |all |both "
    r"|primarily |solely |instead |just"
    r" ){0,2}(?:about|on|concerned|devoted|limited|related))"
)
GIVEN = (
    rf"(?:(?:the|these|those|my|your|both|all|any of the|either of the|the two) {ADJECTIVES}(?:contexts?"
    r"|passages|excerpts|papers|documents|texts?|sources|materials?|articles|snippets|abstracts|literature)"
    rf"|(?:the )?(?:provided|given|supplied|retrieved) {ADJECTIVES}(?:{DOCUMENTS})|(?:the )?(?:corpus"
    rf"|collection|library) (?:at my disposal|i have|i was given|provided|given|shown)){WHICH}"
)
ABSENT = (
    r"(?:not|no|nothing|none|nowhere|never|neither|without|unrelated|absent|missing|unmentioned|unaddressed"
    r"|undisclosed|hardly|cannot|lacking)"
)
