"""How Italian refuses. See ``refusal_grammar`` for the parts."""

from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED, Grammar

_SEPARATORS = r"[,;:()\[\]—–¿¡]+| - "
_SOURCES = (
    r"(?:(?:gli|i|le|il|lo|la|l'|questi|queste|questo|questa|nei|nelle|nel|nella|negli|dei|dai|dal|dalle"
    r"|dagli|nessun[oa]? (?:dei|degli|delle)) ?)?(?:(?:due|altri) )?"
    r"(?:articol[oi]|document[oi]|estratt[oi]|pass[io]|passagg[io]o?|test[oi]|contest[oi]|font[ei]"
    r"|stud[io]o?|pubblicazion[ei]|material[ei]|bran[oi]|autori|paper"
    rf"|informazioni (?:fornite|disponibili)|{QUOTED})(?: (?:fornit|dat|disponibil|mostrat|a disposizione"
    rf"|riportat|presentat|che ho|{QUOTED})\w*)?"
)
_NOTHING = r"(?:non|nulla|niente|nessun[oa]?|né|mai)"
_TELL = (
    r"(?:menzion|conteng|contien|indic|specific|dic|fornisc|offr|rispond|affront|parl|tratt|permett|riport"
    r"|inform|segnal|descriv|spieg|inclu|copr|cit|rivel|precis|dann|accenn|consent|compa|trov|figur|nomin"
    r"|aiut|fa\b|fann|dà|c'è|ci sono|aiut)"
)
_FACTS = (
    r"(?:informazion[ei]|menzione|risposta|dettagli\w*|dat[oi]|indicazion[ei]|riferiment[oi]|passaggi\w*"
    r"|spiegazion[ei]|accenn[oi]|traccia)"
)
_TOLD = (
    r"(?:menzionat|indicat|specificat|fornit|affrontat|trattat|riportat|segnalat|descritt|spiegat|inclus|citat"
    r"|presente|presenti|disponibil|trovat|precisat|compare|figura|contenut)"
)

ITALIAN = Grammar(
    aside=r",? ?\b(?:a quanto (?:vedo|so)|per quanto (?:ne so|vedo|mi risulta))\b,?",
    intro=(
        r"(?:(?:purtroppo|mi dispiace|mi spiace|spiacente|sono spiacente|scusi|scusa|temo che|ma|e|quindi"
        r"|pertanto|perciò|tuttavia|sembra che|no|che|però|dunque"
        rf"|(?:secondo|in base a|sulla base d\w+|con) ?{_SOURCES}) ){{0,4}}"
    ),
    strong=(
        r"(?:io )?non (?:\w+ )?(?:posso|possiamo|si può|è possibile|può|so|sono in grado"
        r"|riesco)\b[^;]{0,60}?(?:rispondere|risposta|aiutar)",
        r"(?:questa|la|tua|sua) domanda\b[^;]{0,60}? (?:non|senza)\b[^;]{0,40}rispo|senza risposta",
        r"(?:mi )?è impossibile[^;]{0,20}? rispondere|impossibile rispondere",
        r"non (?:c'è|ho|esiste|trovo)\b[^;]{0,20}?risposta",
    ),
    silent=(
        rf"(?:in |secondo )?(?:{_SOURCES})\b[^;]{{0,60}}?\b{_NOTHING}\b[^;]{{0,40}}?{_TELL}",
        rf"(?:{_SOURCES})\b[^;]{{0,40}}?\b(?:tacciono|tace|omett|insufficient)",
        rf"nessun[oa]? (?:dei|degli|delle|di) ?(?:\w+ )?(?:{_SOURCES}|questi|loro)",
        rf"non (?!c'è|ci sono)(?:si |ne |lo |la |viene |vengono |è |sono )*(?:{_TELL}"
        rf"|{_TOLD})\w*\b[^;]{{0,80}}?(?:$|(?:in"
        rf"|da|di|nei|nelle|nel|negli) ?(?:{_SOURCES}))",
        rf"[^;]{{1,200}}? non (?:si |è |sono |viene |vengono |è stat\w |sono stat\w )?(?:\w+mente"
        rf" )?(?:{_TOLD}\w*)(?:$|[^;]{{0,30}}? (?:in|nei|nelle|nel|negli|qui|dagli|dai)\b)",
        rf"(?:non (?:c'è|ci sono|ho|trovo|vedo|esiste|esistono|dispongo|si trova|si trovano|ho"
        rf" trovato))\b[^;]{{0,40}}?(?:{_FACTS}|nulla|niente|abbastanza|sufficient|nei|nel|negli|accesso)",
        r"(?:io )?non (?:\w+ )?(?:posso|possiamo|so|conosco|si può|potrei|riesco|sappiamo|lo so)\b[^;]{0,80}",
        rf"(?:senza|nessuna?|nessun) (?:\w+ )?{_FACTS}\b",
        r"(?:nulla|niente) (?:in|nei|negli|nelle|su|di|si dice|viene)\b|da nessuna parte",
        r"non (?:menzionat|specificat|indicat|disponibil|fornit|riportat|noto|nota)\w*(?:$| (?:in|nei|nel"
        r"|negli)\b)|sconosciut\w+$|informazioni? (?:insufficient|non disponibil)\w+",
        r"non è possibile (?:sapere|determinare|dire|concludere|stabilire)|(?:è )?impossibile (?:sapere"
        r"|determinare|dire)",
        r"non (?:è|sono) (?:sufficient|abbastanza)\w*\b|non basta",
        rf"[^;]{{0,100}}?\b(?:al di fuori|fuori d\w+|oltre|esula)\b[^;]{{0,30}}(?:ambito|portata|{_SOURCES})",
        rf"non (?:in|nei|negli|nel|nelle|secondo) ?(?:{_SOURCES})",
    ),
    meta=(
        r"(?:lei (?:chiede|può)|chiedi|la domanda|se (?:vuole|vuoi|desidera|hai|ha|mi)|per favore|posso"
        r" (?:però|invece|aiutar)|volentieri|grazie|consult\w+|sarò|buona domanda|può consultare)\b",
        rf"(?:{_SOURCES}|essi|questi|entrambi|solo|soltanto|si)\b (?:\w+ )?(?:tratt|parl|descriv|concentra"
        rf"|affront|riguard|occup|studi|discut|solo|soltanto|limit)\w*",
    ),
    adjunct=(
        rf"(?:in|secondo|in base a|sulla base d\w+|dai|dal|nei|negli)\b[^;]{{0,30}}?{_SOURCES}[^;]{{0,20}}$"
        rf"|(?:riguardo|quanto a|per quanto riguarda)\b"
    ),
    stated=(
        r"\b(?:in generale|generalmente|normalmente|tipicamente|di solito|solitamente|è (?:ben )?noto"
        r"|probabilmente|credo che|penso che|la risposta (?:corretta )?è|di norma)\b"
        r"|^(?:ma |però )?(?:è|fu|era|erano|sono) (?!imp|possibile|spiacente)"
    ),
    condition=r"(?:e |o |ma )?(?:se|quando|qualora|ogni volta)\b",
    concession=r"(?:anche se|sebbene|benché|perché|poiché|siccome|dato che|dal momento che|mentre|visto che)\b",
    contrast=(
        r"(?:ma|però|tuttavia|bensì|invece|esso|essa|essi|è|sono|fu|in generale|di solito|la risposta|e (?:usa"
        r"|utilizza|si addestra|impiega|è))\b"
    ),
    finding=(
        r"(?:gli |lo |i |la )?(?:autori|studio|ricercatori)\b.{0,60}?(?:trova|trov|osserv|rilev|mostr"
        r"|spiegare)"
    ),
    asked=r"(?:come|cosa|chi|qual\w*|quando|perché|dove|quant\w+|se)\b",
    split=_SEPARATORS
    + (
        r"|\s(?=(?:ma|però|bensì|anche se|sebbene|perché|poiché|quando|e (?:usa|utilizza|si addestra|impiega"
        r"|quindi|non))\b)"
    ),
)
