"""How German refuses. See ``refusal_grammar`` for the parts."""

from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED, Grammar

_SEPARATORS = r"[,;:()\[\]—–¿¡]+| - "
_SOURCES = (
    r"(?:(?:den|der|dem|des|die|das|diese[rnms]?|alle[nr]?|meine[nr]?|beiden?|ihre[nr]?|kein(?:e[rnms]?)?) )?"
    r"(?:(?:einzige\w*|der|dieser|\w+(?:ten|ter|te|nen|ne|den|de|gen|ge|ren|re|ei|wei)) ){0,2}"
    r"(?:arbeit(?:en)?|papieren?|artikeln?|texte?n?|textstellen?|passagen?|auszüge?n?|ausschnitte?n?|abschnitte?n?"
    r"|dokumente?n?"
    r"|unterlagen|quellen?|kontexte?s?n?|papers?n?|studien?|veröffentlichungen|publikationen|materialien|material"
    rf"|aufsätzen?|literatur|informationen|textauszüge?n?|textabschnitte?n?|paper|autoren|{QUOTED})"
)
_NEGATION = r"(?:nicht|nichts|kein(?:e[nrms]?)?|keinerlei|nirgends|nirgendwo|weder|nie)"
_TELL = (
    r"(?:enth(?:alten|ält)|erwähn\w*|nenn(?:en|t)|genannt|sag(?:en|t)|gesagt|geben|gibt|angegeben"
    r"|mach(?:en|t)|beantwort\w*|behandel\w*"
    r"|beschr[ie]+b\w*|liefer\w*|bieten?|bietet|bericht\w*|erklär\w*|erläuter\w*|steht|stehen|find\w+"
    r"|hervor|entnehm\w*|äußer\w*"
    r"|thema\w*|eingegangen|geh(?:en|t)|befass\w*|verraten|verrät|spezifizier\w*|präzisier\w*|vorhanden"
    r"|aufgeführt|diskutier\w*"
    r"|besprochen|abgedeckt|zu lesen|die rede|schweig\w*|ableiten|ermitteln|bestimmen|feststellen|beleg\w*"
    r"|zu finden|bekannt|ersichtlich"
    r"|vermerkt|dokumentiert|(?:kommt|kommen)\b[^;]{0,40}\bvor|vor$)"
)
_FACTS = (
    r"(?:angaben?|information\w*|hinweise?n?|antwort\w*|auskunft|auskünfte|daten|aussagen?|belege?"
    r"|einzelheiten|details?|erwähnung|inhalte?|anhaltspunkte?|ergebnisse dazu|quellen?)"
)
_REPLY = (
    r"(?:beantwort\w*|antwort\w*|sagen|helfen|geben|finden|nennen|entnehmen|bestimmen|feststellen|mitteilen"
    r"|machen|erkennen|beurteilen|weiterhelfen|ermitteln|dienen|angeben|ableiten|wissen|herausfinden)"
)

GERMAN = Grammar(
    aside=r",? ?\b(?:soweit ich (?:sehe|sehen kann|weiß)|meines wissens)\b,?",
    intro=(
        r"(?:(?:leider|und|aber|jedoch|daher|deshalb|somit|also|nein|entschuldigung|verzeihung|sorry"
        r"|bedauerlicherweise|es tut mir (?:\w+ )?leid"
        r"|tut mir (?:\w+ )?leid|ich bedaure|hierzu|dazu|darüber|davon|sodass|so dass|dass|allerdings|ich"
        r" fürchte|es scheint|gemäß|insofern|folglich) ){0,4}"
    ),
    strong=(
        r"(?:ich|wir) (?:kann|können|könnte|konnte|vermag"
        rf"|darf)\b[^;]{{0,80}}?\b{_NEGATION}\b[^;]{{0,50}}?\b(?:beantwort\w*|antworten|helfen|weiterhelfen"
        r"|antwort)",
        r"(?:kann|können|könnte|konnte|vermag) (?:ich|wir"
        rf"|man)\b[^;]{{0,80}}?\b{_NEGATION}\b[^;]{{0,50}}?\b(?:beantwort\w*|antworten|helfen|weiterhelfen"
        r"|antwort)",
        rf"(?:ich|wir)\b[^;]{{0,80}}?\b{_NEGATION}\b[^;]{{0,50}}?\b(?:beantworten|antworten|helfen) (?:kann"
        r"|können|könnte)",
        rf"(?:(?:die|diese|ihre|deine|eine) (?:\w+ )?(?:frage|antwort)\b[^;]{{0,60}}?|(?:das|dies|es|darauf"
        rf"|hierauf) )(?:lässt sich|kann|können|ist|bleibt|gibt)\b[^;]{{0,80}}?\b(?:{_NEGATION}"
        rf"|un)[^;]{{0,40}}?(?:beantwort\w*|möglich$|antwort)",
        r"(?:lässt sich|kann|ist) (?:die|diese|das|eine"
        rf"|dies)\b[^;]{{0,100}}?\b{_NEGATION}\b[^;]{{0,40}}?beantwort\w*",
        r"(?:ohne [^;]{1,60}? )?(?:ist|wäre) (?:eine|keine) (?:\w+ )?(?:antwort|aussage"
        r"|beantwortung)\b[^;]{0,30}?möglich",
        r"(?:nicht beantwortbar|unbeantwortbar|keine antwort (?:möglich|darauf|auf))",
    ),
    silent=(
        r"(?:in |aus |laut |bei |von |mit |anhand |anhand von |auf grundlage"
        rf" )?(?:{_SOURCES})\b[^;]{{0,120}}?\b(?:{_TELL}\b[^;]{{0,100}}?\b{_NEGATION}\b"
        rf"|{_NEGATION}\b[^;]{{0,80}}?\b{_TELL})",
        rf"(?:in |aus |laut |bei |von |anhand )?(?:{_SOURCES})\b[^;]{{0,60}}?\b(?:reich(?:en"
        rf"|t)\b[^;]{{0,40}}?\bnicht|schweig|keine\w* {_FACTS}|lassen|lässt)",
        rf"kein(?:e[rs]?)? (?:einzige\w* )?(?:der |dieser |von )?(?:{_SOURCES})\b[^;]{{0,60}}?\b(?:{_TELL}|geht)",
        rf"[^;]{{1,120}}? (?:fehl(?:t|en)|fehlte) (?:in|leider in) (?:{_SOURCES})",
        rf"(?:zu|zum|zur|über|von|was|hinsichtlich|bezüglich) [^;]{{1,60}}? (?:machen|macht|äußern|äußert|sagen|sagt"
        rf"|schweigen|erfährt|geben|gibt|enthalten|liefern|nennen) (?:sich )?(?:{_SOURCES}"
        rf"|man)\b[^;]{{0,40}}?(?:{_NEGATION}\b|schweigen|$)",
        rf"(?:dort|darin|da|hier|und dort|und darin)\b[^;]{{0,30}}?\b(?:{_NEGATION})\b",
        rf"weder\b[^;]{{0,40}}?(?:{_SOURCES})",
        rf"(?:\w+ ){{0,6}}?(?:sagen|sagt|steht|enthalten|enthält|erwähnen|erwähnt|nennen|nennt|geben|gibt"
        rf"|machen|äußern) (?:sie|es|er|diese|dort|darin)\b[^;]{{0,40}}?\b{_NEGATION}\b",
        r"(?:und |aber |doch |jedoch )?(?:sagt|sagen|nennt|nennen|erwähnt|erwähnen|enthält|enthalten|gibt"
        rf"|geben)\b(?: aber| jedoch)?[^;]{{0,30}}?\b{_NEGATION}\b",
        rf"[^;]{{1,200}}? (?:wird|werden|wurde|wurden|ist|sind|steht|findet sich|finden sich|taucht|kommt"
        r"|geht|lässt sich|lassen sich|bleibt|kann|können)\b"
        rf"[^;]{{0,100}}?\b{_NEGATION}\b[^;]{{0,80}}?(?:(?:in|aus|von|anhand|mit) (?:{_SOURCES})|(?:erwähnt"
        r"|genannt|angegeben|beantwortet|berichtet|behandelt|thematisiert|beschrieben)$)",
        r"(?:das |es )?(?:weiß|wissen) (?:ich|wir)\b[^;]{0,30}?\bnicht\b",
        rf"(?:[^;]{{1,120}}? )?(?:wird|werden|wurde|wurden|ist|sind|steht|findet sich|finden sich|taucht"
        r"|kommt|geht|lässt sich|lassen sich|bleibt) (?:in |aus |von |anhand"
        rf" )?(?:{_SOURCES})\b[^;]{{0,60}}?\b(?:{_NEGATION}|unklar|offen|ungenannt)\b",
        rf"(?:hierzu|dazu|darüber|davon|hierüber)\b[^;]{{0,100}}?\b{_NEGATION}\b",
        r"(?:(?:steht|finde|findet sich|gibt es|liegen|liegt|enthalten|kann|sagen|sagt|habe)"
        rf" )[^;]{{0,80}}?\b(?:{_NEGATION}) ?(?:{_FACTS}|dazu|darüber|davon|hierzu)?\b[^;]{{0,60}}",
        r"(?:es gibt|es liegen|es liegt|mir liegen|ich habe|ich finde|ich sehe|ich fand|mir fehl\w+|es"
        rf" fehl\w+)\b[^;]{{0,60}}?(?:\b(?:kein\w*|nicht genügend|nicht genug|zu wenig|nicht ausreichend\w*"
        rf"|nichts)\b(?: \w+){{0,2}}? ?(?:{_FACTS}|dazu|darüber|zu|über|in|passage\w*|stelle\w*)|{_FACTS})",
        rf"(?:kein(?:e[nr]?)?|keinerlei) (?:\w+ )?{_FACTS}(?:$| (?:zu|dazu|über|darüber|vorhanden|verfügbar"
        r"|gefunden|in|im))",
        r"(?:nicht (?:erwähnt|angegeben|genannt|enthalten|bekannt|beschrieben|vorhanden|behandelt"
        r"|thematisiert)|unbekannt|unklar|keine ahnung|weiß ich nicht|weiß nicht)(?:$| (?:in|aus) )",
        rf"nicht (?:in|im|aus|bei|vom) (?:{_SOURCES})",
        rf"(?:das|dies|es) (?:kann|könnte|konnte) (?:ich|man)\b[^;]{{0,100}}?\b{_NEGATION}\b[^;]{{0,60}}?{_REPLY}",
        r"(?:bleibt|ist) (?:\w+ )?(?:unklar|offen|ungeklärt|ungewiss)$",
        r"(?:das|dies|es) lässt sich (?:\w+ ){0,4}nicht (?:sagen|feststellen|bestimmen|ermitteln|erkennen)",
        r"(?:[^;]{1,80} )?(?:liegt|liegen) (?:mir|uns) nicht vor\b",
        r"(?:darüber |hierüber |dazu )?schweig(?:en|t)\b",
        rf"(?:es )?fehl(?:t|en|te|ten) (?:\w+ ){{0,3}}?{_FACTS}",
        rf"[^;]{{1,100}}? (?:ist|sind|war|waren) nicht (?:gegenstand|thema|teil|bestandteil|inhalt) (?:{_SOURCES})",
        r"(?:ich|wir) (?:weiß|wissen)\b[^;]{0,40}?\bnicht\b",
        rf"(?:ich|man) (?:kann|könnte|konnte|finde|fand|sehe|habe|möchte|will)\b[^;]{{0,100}}?\b{_NEGATION}\b",
        r"(?:kann|könnte|konnte|finde|sehe|habe) (?:ich"
        rf"|man)\b[^;]{{0,100}}?\b{_NEGATION}\b(?:[^;]{{0,60}}?{_REPLY}|[^;]{{0,20}}?{_FACTS})",
        rf"(?:nicht genügend|nicht genug|unzureichende|zu wenige?|nicht ausreichend\w*) {_FACTS}",
        r"[^;]{0,80}?\b(?:außerhalb|jenseits) (?:der|des|dieser|meiner|von)\b[^;]{0,40}(?:arbeit|text"
        r"|dokument|unterlagen|quellen|themen|kontext|umfang|papers)",
        r"es (?:geht|ist|bleibt|wird)\b[^;]{0,60}?\b(?:nicht (?:hervor|klar|erwähnt|angegeben|ersichtlich)"
        r"|unklar|offen)\b",
        rf"(?:ist|sind|wird|werden|wurde|wurden) (?:\w+ ){{0,6}}?{_NEGATION} (?:\w+ ){{0,3}}?(?:erwähnt"
        r"|genannt|angegeben|beschrieben|enthalten|behandelt)",
    ),
    meta=(
        r"(?:wie|was|wer|wen|wem|welche\w*|wann|warum|weshalb|wo|wohin|woher|ob|wofür|womit|wodurch|worin"
        r"|zur frage|auf die frage|sie fragen|du fragst|die frage)\b",
        rf"(?:{_SOURCES})\b [^;]{{1,80}} (?:behandeln|beschreiben|besprechen|untersuchen|diskutieren|erläutern)$",
        r"(?:der|die|das) [^;]{1,60} (?:müsste|könnte|würde|dürfte|müssten|könnten)$",
        r"(?:bitte|gern\w*|wenn sie|wenn du|falls|sie können|du kannst|ich kann (?:ihnen|dir)? ?(?:gern\w*"
        r"|aber|jedoch|nur)|ich helfe|danke|stellen sie|vielleicht|gute frage)\b",
        rf"(?:{_SOURCES}|sie|diese|es|dort|beide|darin)\b (?:\w+ )?(?:behandel\w+|beschreib\w+|beschäftig\w+"
        r"|befass\w+|handel\w+|geht (?:nur|um|es)|gehen|konzentrier\w+|dreh\w+|betreffen|betrifft"
        r"|untersuch\w+|diskutier\w+|nur|lediglich)",
    ),
    adjunct=(
        r"(?:in|aus|laut|nach|gemäß|anhand|auf grundlage|auf basis|basierend auf|aufgrund|mit"
        rf"|im)\b[^;]{{0,40}}?(?:{_SOURCES}|kontext)(?: allein)?$"
    ),
    stated=(
        r"\b(?:im allgemeinen|allgemein|üblicherweise|typischerweise|in der regel|meist(?:ens)?"
        r"|bekanntlich|normalerweise|wahrscheinlich|vermutlich"
        r"|ich (?:glaube|denke|vermute)|die (?:richtige )?antwort (?:ist|lautet)|gewöhnlich|generell)\b"
        r"|^(?:aber |jedoch )?(?:er|sie|es) (?:ist|war|waren|sind|beträgt|betrug) (?!nicht|un|leider)"
    ),
    condition=r"(?:und |oder |aber )?(?:wenn|falls|sofern|sobald|immer wenn)\b",
    concession=r"(?:obwohl|weil|da|denn|während|zwar|auch wenn|obgleich)\b",
    contrast=(
        r"(?:aber|jedoch|sondern|doch|er|sie|es|stattdessen|allerdings|dort|die antwort|allgemein"
        r"|üblicherweise|und (?:er|sie|es|das|verwendet|trainiert|nutzt|läuft|beträgt|rechnet)|trotzdem"
        r"|dennoch|so dass|sodass|weshalb|daher|deshalb|also)\b"
    ),
    finding=(
        rf"{_SOURCES} (?:finden|findet|fanden|fand|zeigen|zeigt|beobachten|beobachtet|sehen|sieht|berichten|berichtet) "
        r"(?:\w+ )?keine?n? (?:\w+ )?(?:effekte?|einfluss|unterschiede?|zusammenh\w+|wirkung|nutzen|verbesserung\w*)\b|"
        r"(?:die |der |den )?(?:autoren|studie|forscher\w*|verfasser\w*|untersuchung)\b.{0,60}?(?:find|fand"
        r"|feststell|nachweis|nachgew|zeig|beobacht|erklären)"
    ),
    excluded=r"(?:und |aber )?nicht\b",
    asked=r"(?:wie|was|wer|welche\w*|wann|warum|wo|ob)\b",
    split=_SEPARATORS
    + (
        r"|\s(?=(?:aber|jedoch|sondern|obwohl|weil|und (?:verwendet|trainiert|nutzt|läuft|rechnet|daher"
        r"|deshalb|kann|ich))\b)"
    ),
)
