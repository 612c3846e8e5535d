"""How German, French, Spanish and Italian refuse. See ``refusal_grammar`` for the parts."""

from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED, Grammar

_SEPARATORS = r"[,;:()\[\]—–¿¡]+| - "


def _german() -> Grammar:
    sources = (
        r"(?:(?:den|der|dem|des|die|das|diese[rnms]?|alle[nr]?|meine[nr]?|beiden?|ihre[nr]?|kein(?:e[rnms]?)?) )?"
        r"(?:(?:einzige\w*|der|dieser|\w+(?:ten|ter|te|nen|ne|den|de|gen|ge|ren|re|ei|wei)) ){0,2}"
        r"(?:arbeit(?:en)?|artikeln?|texte?n?|textstellen?|passagen?|auszüge?n?|ausschnitte?n?|abschnitte?n?"
        r"|dokumente?n?"
        r"|unterlagen|quellen?|kontexte?s?n?|papers?n?|studien?|veröffentlichungen|publikationen|materialien|material"
        rf"|aufsätzen?|literatur|informationen|textauszüge?n?|textabschnitte?n?|paper|autoren|{QUOTED})"
    )
    negation = r"(?:nicht|nichts|kein(?:e[nrms]?)?|keinerlei|nirgends|nirgendwo|weder|nie)"
    tell = (
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
    facts = (
        r"(?:angaben?|information\w*|hinweise?n?|antwort\w*|auskunft|auskünfte|daten|aussagen?|belege?"
        r"|einzelheiten|details?|erwähnung|inhalte?|anhaltspunkte?|ergebnisse dazu|quellen?)"
    )
    reply = (
        r"(?:beantwort\w*|antwort\w*|sagen|helfen|geben|finden|nennen|entnehmen|bestimmen|feststellen|mitteilen"
        r"|machen|erkennen|beurteilen|weiterhelfen|ermitteln|dienen|angeben|ableiten|wissen|herausfinden)"
    )
    return Grammar(
        aside=r",? ?\b(?:soweit ich (?:sehe|sehen kann|weiß)|meines wissens)\b,?",
        intro=(
            r"(?:(?:leider|und|aber|jedoch|daher|deshalb|somit|also|nein|entschuldigung|verzeihung|sorry"
            r"|bedauerlicherweise|es tut mir (?:\w+ )?leid"
            r"|tut mir (?:\w+ )?leid|ich bedaure|hierzu|dazu|darüber|davon|sodass|so dass|dass|allerdings|ich"
            r" fürchte|es scheint|gemäß|insofern|folglich) ){0,4}"
        ),
        strong=(
            rf"(?:ich|wir) (?:kann|können|könnte|konnte|vermag"
            rf"|darf)\b[^;]{{0,80}}?\b{negation}\b[^;]{{0,50}}?\b(?:beantwort\w*|antworten|helfen|weiterhelfen"
            rf"|antwort)",
            rf"(?:kann|können|könnte|konnte|vermag) (?:ich|wir"
            rf"|man)\b[^;]{{0,80}}?\b{negation}\b[^;]{{0,50}}?\b(?:beantwort\w*|antworten|helfen|weiterhelfen"
            rf"|antwort)",
            rf"(?:ich|wir)\b[^;]{{0,80}}?\b{negation}\b[^;]{{0,50}}?\b(?:beantworten|antworten|helfen) (?:kann"
            rf"|können|könnte)",
            rf"(?:(?:die|diese|ihre|deine|eine) (?:\w+ )?(?:frage|antwort)\b[^;]{{0,60}}?|(?:das|dies|es|darauf"
            rf"|hierauf) )(?:lässt sich|kann|können|ist|bleibt|gibt)\b[^;]{{0,80}}?\b(?:{negation}"
            rf"|un)[^;]{{0,40}}?(?:beantwort\w*|möglich$|antwort)",
            rf"(?:lässt sich|kann|ist) (?:die|diese|das|eine"
            rf"|dies)\b[^;]{{0,100}}?\b{negation}\b[^;]{{0,40}}?beantwort\w*",
            r"(?:nicht beantwortbar|unbeantwortbar|keine antwort (?:möglich|darauf|auf))",
        ),
        silent=(
            rf"(?:in |aus |laut |bei |von |mit |anhand |anhand von |auf grundlage"
            rf" )?(?:{sources})\b[^;]{{0,120}}?\b(?:{tell}\b[^;]{{0,100}}?\b{negation}\b"
            rf"|{negation}\b[^;]{{0,80}}?\b{tell})",
            rf"(?:in |aus |laut |bei |von |anhand )?(?:{sources})\b[^;]{{0,60}}?\b(?:reich(?:en"
            rf"|t)\b[^;]{{0,40}}?\bnicht|schweig|keine\w* {facts}|lassen|lässt)",
            rf"kein(?:e[rs]?)? (?:einzige\w* )?(?:der |dieser |von )?(?:{sources})\b[^;]{{0,60}}?\b(?:{tell}|geht)",
            rf"[^;]{{1,120}}? (?:fehl(?:t|en)|fehlte) (?:in|leider in) (?:{sources})",
            rf"(?:zu|zum|zur|über|von|was|hinsichtlich|bezüglich) [^;]{{1,60}}? (?:äußern|äußert|sagen|sagt|schweigen|erfährt|geben|gibt|enthalten|liefern|nennen) (?:sich )?(?:{sources}|man)\b[^;]{{0,40}}?(?:{negation}\b|schweigen|$)",
            rf"(?:dort|darin|da|hier|und dort|und darin)\b[^;]{{0,30}}?\b(?:{negation})\b",
            rf"weder\b[^;]{{0,40}}?(?:{sources})",
            rf"(?:\w+ ){{0,6}}?(?:sagen|sagt|steht|enthalten|enthält|erwähnen|erwähnt|nennen|nennt|geben|gibt"
            rf"|machen|äußern) (?:sie|es|er|diese|dort|darin)\b[^;]{{0,40}}?\b{negation}\b",
            rf"(?:und |aber |doch |jedoch )?(?:sagt|sagen|nennt|nennen|erwähnt|erwähnen|enthält|enthalten|gibt"
            rf"|geben)\b(?: aber| jedoch)?[^;]{{0,30}}?\b{negation}\b",
            rf"[^;]{{1,200}}? (?:wird|werden|wurde|wurden|ist|sind|steht|findet sich|finden sich|taucht|kommt"
            rf"|geht|lässt sich|lassen sich|bleibt|kann|können)\b"
            rf"[^;]{{0,100}}?\b{negation}\b[^;]{{0,80}}?(?:(?:in|aus|von|anhand|mit) (?:{sources})|(?:erwähnt"
            rf"|genannt|angegeben|beantwortet|berichtet|behandelt|thematisiert|beschrieben)$)",
            r"(?:das |es )?(?:weiß|wissen) (?:ich|wir)\b[^;]{0,30}?\bnicht\b",
            rf"(?:[^;]{{1,120}}? )?(?:wird|werden|wurde|wurden|ist|sind|steht|findet sich|finden sich|taucht"
            rf"|kommt|geht|lässt sich|lassen sich|bleibt) (?:in |aus |von |anhand"
            rf" )?(?:{sources})\b[^;]{{0,60}}?\b(?:{negation}|unklar|offen|ungenannt)\b",
            rf"(?:hierzu|dazu|darüber|davon|hierüber)\b[^;]{{0,100}}?\b{negation}\b",
            rf"(?:(?:steht|finde|findet sich|gibt es|liegen|liegt|enthalten|kann|sagen|sagt|habe)"
            rf" )[^;]{{0,80}}?\b(?:{negation}) ?(?:{facts}|dazu|darüber|davon|hierzu)?\b[^;]{{0,60}}",
            rf"(?:es gibt|es liegen|es liegt|mir liegen|ich habe|ich finde|ich sehe|ich fand|mir fehl\w+|es"
            rf" fehl\w+)\b[^;]{{0,60}}?(?:\b(?:kein\w*|nicht genügend|nicht genug|zu wenig|nicht ausreichend\w*"
            rf"|nichts)\b(?: \w+){{0,2}}? ?(?:{facts}|dazu|darüber|zu|über|in|passage\w*|stelle\w*)|{facts})",
            rf"(?:kein(?:e[nr]?)?|keinerlei) (?:\w+ )?{facts}(?:$| (?:zu|dazu|über|darüber|vorhanden|verfügbar"
            rf"|gefunden|in|im))",
            r"(?:nicht (?:erwähnt|angegeben|genannt|enthalten|bekannt|beschrieben|vorhanden|behandelt"
            r"|thematisiert)|unbekannt|unklar|keine ahnung|weiß ich nicht|weiß nicht)(?:$| (?:in|aus) )",
            rf"nicht (?:in|aus|bei) (?:{sources})",
            r"(?:ich|wir) (?:weiß|wissen)\b[^;]{0,40}?\bnicht\b",
            rf"(?:ich|man) (?:kann|könnte|konnte|finde|fand|sehe|habe|möchte|will)\b[^;]{{0,100}}?\b{negation}\b",
            rf"(?:kann|könnte|konnte|finde|sehe|habe) (?:ich"
            rf"|man)\b[^;]{{0,100}}?\b{negation}\b(?:[^;]{{0,60}}?{reply}|[^;]{{0,20}}?{facts})",
            rf"(?:nicht genügend|nicht genug|unzureichende|zu wenige?|nicht ausreichend\w*) {facts}",
            r"[^;]{0,80}?\b(?:außerhalb|jenseits) (?:der|des|dieser|meiner|von)\b[^;]{0,40}(?:arbeit|text"
            r"|dokument|unterlagen|quellen|themen|kontext|umfang|papers)",
            r"es (?:geht|ist|bleibt|wird)\b[^;]{0,60}?\b(?:nicht (?:hervor|klar|erwähnt|angegeben|ersichtlich)"
            r"|unklar|offen)\b",
            rf"(?:ist|sind|wird|werden|wurde|wurden) (?:\w+ ){{0,6}}?{negation} (?:\w+ ){{0,3}}?(?:erwähnt"
            rf"|genannt|angegeben|beschrieben|enthalten|behandelt)",
        ),
        meta=(
            r"(?:wie|was|wer|wen|wem|welche\w*|wann|warum|weshalb|wo|wohin|woher|ob|wofür|womit|wodurch|worin"
            r"|zur frage|auf die frage|sie fragen|du fragst|die frage)\b",
            r"(?:bitte|gern\w*|wenn sie|wenn du|falls|sie können|du kannst|ich kann (?:ihnen|dir)? ?(?:gern\w*"
            r"|aber|jedoch|nur)|ich helfe|danke|stellen sie|vielleicht|gute frage)\b",
            rf"(?:{sources}|sie|diese|es|dort|beide|darin)\b (?:\w+ )?(?:behandel\w+|beschreib\w+|beschäftig\w+"
            rf"|befass\w+|handel\w+|geht (?:nur|um|es)|gehen|konzentrier\w+|dreh\w+|betreffen|betrifft"
            rf"|untersuch\w+|diskutier\w+|nur|lediglich)",
            rf"(?:in|aus|laut|nach|gemäß|anhand|auf grundlage|auf basis|basierend auf|aufgrund|mit"
            rf"|im)\b[^;]{{0,40}}?(?:{sources}|kontext)(?: allein)?$",
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
            r"(?:die |der |den )?(?:autoren|studie|forscher\w*|verfasser\w*|untersuchung)\b.{0,60}?(?:find|fand"
            r"|feststell|nachweis|nachgew|zeig|beobacht|erklären)"
        ),
        asked=r"(?:wie|was|wer|welche\w*|wann|warum|wo|ob)\b",
        split=_SEPARATORS
        + (
            r"|\s(?=(?:aber|jedoch|sondern|obwohl|weil|und (?:verwendet|trainiert|nutzt|läuft|rechnet|daher"
            r"|deshalb|kann|ich))\b)"
        ),
    )


def _french() -> Grammar:
    sources = (
        r"(?:(?:les|des|ces|la|le|du|cet?|cette|aux|au|mes|vos|aucun\w* (?:de ces|des|de)|l'|d'|tous les)"
        r" ?)?(?:(?:autres?|deux|seuls?|différents?|\d+) )?"
        r"(?:articles?|documents?|extraits?|passages?|textes?|contextes?|sources?|papiers?|études?"
        r"|publications?|matériaux|documentation|auteurs?"
        rf"|éléments|informations (?:fournies|données)|{QUOTED})(?: (?:fournis?|donnés?|présentés?|disponibles?"
        rf"|ci-dessus|proposés?|mentionnés?|transmis|à ma disposition|dont je dispose|\w+[ée]e?s|{QUOTED}))?"
    )
    nothing = r"(?:pas|rien|aucune?s?|jamais|ni|nulle part|guère|point|nullement)"
    tell = (
        r"(?:mentionn|contienn|contient|indiqu|précis|dis(?:ent)?\b|dit\b|fourni|donn|répond|abord|parl|trait"
        r"|permett|permet|évoqu|rapport|signal"
        r"|décri|expliqu|compren|inclu|couvr|cit|révèl|fait|font|comport|renseign|livr|apport|spécifi|détaill"
        r"|figur|trouv|offr|suffi|port|concern|aid|nomm|propos|a\b|ont\b)"
    )
    facts = (
        r"(?:informations?|mention|réponse|détails?|données?|indication|précision|élément|trace|référence|passage"
        r"|renseignement|explication)s?"
    )
    told = (
        r"(?:mentionn|indiqu|précis|fourni|donn|abord|trait|évoqu|rapport|signal|décri|expliqu|inclu|couvert|cit"
        r"|spécifi|trouv|disponible|présent|contenu|détaill|dans)"
    )
    return Grammar(
        aside=r",? ?\b(?:à ma connaissance|pour autant que je sache|autant que je puisse voir|à vrai dire)\b,?",
        intro=(
            r"(?:(?:malheureusement|désolée?|je suis (?:vraiment |navrée?|désolée?)?|je regrette|mais|et|donc"
            r"|or|non|par conséquent|ainsi|toutefois|cependant|hélas|il semble que|je crains que|"
            rf"excusez-moi|navrée?|c'est pourquoi|de ce fait|d'après|selon|dans|sur la base de|à partir de|avec"
            rf"|que|{sources}|pardon|il semblerait que|en effet) ?){{0,4}}"
        ),
        strong=(
            r"(?:je|j'|nous|on) ?(?:ne|n')\b[^;]{0,60}?(?:répondre|réponse|vous aider|en mesure|connais pas la"
            r" réponse)",
            r"(?:il (?:ne |n')?(?:m')?(?:est|était)? ?(?:donc |pas )?)?(?:impossible|pas possible)[^;]{0,20}?"
            r" (?:de |d')(?:y |vous )?répondre",
            r"(?:on|il|elle|cette question|la question|votre question|cela|ceci|ça)\b[^;]{0,40}?(?:ne|n')"
            r" ?[^;]{0,40}?(?:être répondu|répondre|sans réponse|trouve pas de réponse)",
            r"(?:cette|la|votre) question (?:reste|demeure) sans réponse|sans réponse possible|pas de réponse"
            r"|aucune réponse",
        ),
        silent=(
            rf"(?:dans |selon |d'après )?(?:{sources})\b[^;]{{0,60}}?\b(?:ne "
            rf"|n')[^;]{{0,80}}?{tell}\w*[^;]{{0,40}}?\b{nothing}\b",
            rf"(?:{sources})\b[^;]{{0,60}}?\b(?:ne |n')[^;]{{0,20}}?\b{nothing}\b[^;]{{0,20}}?{tell}",
            rf"(?:ils|elles|il|elle|ceux-ci|celui-ci) (?:ne |n')[^;]{{0,30}}?(?:mentionn|dis|dit|indiqu|précis"
            rf"|parl|abord|évoqu|rapport|contienn|fourni|donn)\w*[^;]{{0,20}}?{nothing}",
            rf"(?:{sources})\b[^;]{{0,40}}?(?:muets?|muettes?|silencieux|insuffisants?|insuffisantes?"
            rf"|reste(?:nt)? vague|passe(?:nt)? sous silence|omet)",
            rf"aucune? (?:des |de ces |de |d')?(?:{sources})[^;]{{0,30}}?(?:ne |n')",
            rf"(?:ni )?(?:{sources}) ni ",
            rf"[^;]{{1,200}}? (?:n'est|n'a été|ne sont|n'ont été|n'apparaî\w+|ne figur\w+|ne se trouv\w+"
            rf"|n'était|ne ressort) ?(?:\w+ment )?{nothing}\b ?[^;]{{0,20}}?(?:{told}\w*(?:$|"
            rf" [^;]{{0,30}}?(?:dans|par|ici))|(?:dans|par|parmi) )",
            rf"(?:il n'y a|il n'existe|je n'ai|je ne trouve|je ne vois|on ne trouve|je ne dispose|nous n'avons"
            rf"|il n'est fait)\b ?[^;]{{0,20}}?{nothing}\b[^;]{{0,20}}?(?:{facts}|dans|sur|d'accès)",
            r"(?:je|j'|on|nous) ?(?:ne|n') ?(?:peux|puis|saurais|pourrais|sais|peut|saurait|pourrait|connais"
            r"|trouve|vois|ai|dispose|suis)\b[^;]{0,80}",
            rf"(?:aucune?|pas d'|pas de|nulle?) ?(?:autre )?{facts}\b",
            r"(?:rien|nulle part)\b[^;]{0,60}?(?:dans|de ces|sur|à ce sujet)",
            r"(?:non|pas) (?:mentionn|précis|indiqu|spécifi|fourni|disponible|traité|abord)\w*|information"
            r" (?:non |in)(?:disponible|suffisante|fournie)|inconnu\w*$",
            r"(?:pas assez|pas suffisamment|trop peu|insuffisamment) d'[^;]{0,20}?(?:informations?|éléments"
            r"|contexte|détails)",
            r"(?:il (?:ne |n')?(?:m')?(?:est|serait)? ?(?:donc |pas )?)?(?:impossible|pas possible)[^;]{0,20}?"
            r" (?:de |d')(?:dire|savoir|détermin|conclu|préciser|connaître|trouver|établir|le )",
            rf"[^;]{{0,100}}?\b(?:hors du|en dehors d\w+|dépasse|au-delà d\w+)\b[^;]{{0,30}}(?:cadre|champ|{sources})",
            rf"pas (?:dans|par|d'après) (?:{sources})",
            r"(?:on|nul|personne) (?:ne|n')[^;]{0,20}?(?:sait|peut)",
        ),
        meta=(
            r"(?:vous (?:demandez|pouvez|voulez|pourriez)|la question|votre question|n'hésitez|veuillez|si"
            r" vous|je peux (?:toutefois|cependant|en revanche|vous)|je serais|merci|consultez|bonne question"
            r"|essayez)\b",
            rf"(?:{sources}|ils|elles|il|elle|ceux-ci)\b (?:\w+ )?(?:port|trait|parl|abord|décri|se concentr|se"
            rf" limit|concern|s'intéress|étudi|discut|évoqu|ne (?:\w+ )?que|uniquement|seulement)\w*",
            rf"(?:dans|selon|d'après|sur la base de|à partir de|au vu de)\b[^;]{{0,30}}?{sources}[^;]{{0,20}}$"
            rf"|(?:concernant|quant à|pour ce qui)\b",
        ),
        stated=(
            r"\b(?:en général|généralement|d'habitude|habituellement|typiquement|en règle générale|on sait que"
            r"|il est (?:bien )?connu|probablement|je (?:crois|pense)|la (?:bonne )?réponse est|le plus"
            r" souvent)\b"
            r"|^(?:mais |cependant )?(?:c'|il |elle |ce )(?:est|était|s'agit|fut) (?!pas|imp|mal)"
        ),
        condition=r"(?:et |ou |mais )?(?:si|quand|lorsque|lorsqu'|dès que|chaque fois)\b",
        concession=(
            r"(?:bien qu[e']|parce qu[e']|car|puisqu[e']|comme|étant donné qu[e']|alors que|tandis que|même si|si"
            r" bien que)"
        ),
        contrast=(
            r"(?:mais|cependant|toutefois|il|elle|ils|elles|c'est|ce|en général|généralement|la réponse|on|plutôt"
            r"|et (?:il|elle|utilise|entraîne|s'entraîne|emploie|repose))\b"
        ),
        finding=(
            r"(?:les |l'|cette |la )?(?:auteurs|étude|études|chercheurs)\b.{0,60}?(?:trouv|observ|constat|détect"
            r"|montr|expliquer)"
        ),
        asked=r"(?:comment|qui|quel\w*|quand|pourquoi|où|combien|si)\b",
        split=_SEPARATORS
        + (
            r"|\s(?=(?:mais|cependant|bien que|parce que|car|puisque|lorsqu|quand|et (?:utilise|entraîne"
            r"|s'entraîne|emploie|repose|je|donc))\b)"
        ),
    )


def _spanish() -> Grammar:
    sources = (
        r"(?:(?:los|las|el|la|estos|estas|este|esta|esos|mis|sus|del|al|ningun[oa] de (?:los|las|estos))"
        r" )?(?:(?:dos|otros|demás|\w+ados?) )?"
        r"(?:artículos?|documentos?|extractos?|pasajes?|textos?|contextos?|fuentes?|estudios?|publicaciones"
        r"|trabajos?|materiales|material|fragmentos?|autores|papers?"
        rf"|información (?:proporcionada|disponible|dada)|{QUOTED})(?: (?:proporcionad|dad|disponibl"
        rf"|suministrad|facilitad|mostrad|recuperad|aportad|citad)\w+| que tengo| {QUOTED})?"
    )
    nothing = r"(?:no|nada|ningun[oa]s?|ningún|tampoco|nunca|ni)"
    tell = (
        r"(?:mencion|precis|concret|contien|indic|especific|dic|proporcion|ofrec|respond|abord|habl|trat|permit|report|inform"
        r"|señal|describ|explic|inclu|cubr|cit|revel|da\b|dan\b|aport|refier|hac|detall|aclar|recog|aparec"
        r"|encuentr|figur|nombr|alud|ayud|tien)"
    )
    facts = (
        r"(?:información|mención|respuesta|detalles?|datos?|indicación|referencias?|pasaje|explicación|evidencia"
        r"|menciones|pista)"
    )
    told = (
        r"(?:mencion|precis|concret|indic|especific|proporcion|abord|trat|report|inform|señal|describ|explic|inclu|cubiert|cit"
        r"|aparec|encuentr|figur|disponible|present|detall|recog|dic)"
    )
    return Grammar(
        aside=r",? ?\b(?:que yo sepa|hasta donde (?:sé|puedo ver)|por lo que veo)\b,?",
        intro=(
            r"(?:(?:lamentablemente|desafortunadamente|por desgracia|lo siento|lo siento mucho|disculpe|perdón"
            r"|me temo que|lamento decir que|pero|y|así que|por (?:lo )?tanto|sin embargo|no obstante|parece"
            r" que|que|entonces|por eso|bueno"
            rf"|(?:según|en|de acuerdo con|a partir de|con|basándome en) {sources}) ){{0,4}}"
        ),
        strong=(
            r"(?:yo )?no (?:\w+ )?(?:puedo|podemos|se puede|es posible|puede|sé|soy capaz|estoy en"
            r" condiciones)\b[^;]{0,60}?(?:responder|contestar|respuesta|ayudar)",
            r"(?:esta|la|su|tu) pregunta\b[^;]{0,60}? no\b[^;]{0,40}(?:respond|contest|respuesta)|(?:queda"
            r"|quedan) sin respuesta|sin respuesta",
            r"(?:me |nos )?(?:es|resulta) imposible[^;]{0,20}? (?:responder|contestar)|imposible (?:de )?responder",
            r"no (?:hay|tengo|existe|encuentro)\b[^;]{0,20}?respuesta",
        ),
        silent=(
            rf"(?:en |según )?(?:{sources})\b[^;]{{0,60}}?\b{nothing}\b[^;]{{0,40}}?{tell}",
            rf"(?:{sources})\b[^;]{{0,40}}?\b(?:guardan? silencio|omite|callan?|insuficientes?)",
            rf"ningun[oa] (?:de (?:los|las|estos|estas|ellos) )?(?:\w+ )?(?:{sources}|{tell})",
            rf"no (?:se )?(?:lo |la )?{tell}\w*\b[^;]{{0,80}}?(?:$|(?:en|de|por) (?:{sources}))",
            rf"[^;]{{1,200}}? no (?:se |está |están |ha sido |han sido |es |fue )?(?:\w+mente )?{told}\w*(?:$"
            rf"|[^;]{{0,30}}? (?:en|por|ahí|aquí)\b)",
            rf"(?:no (?:hay|tengo|encuentro|veo|existe|existen|dispongo de|se dispone de|he encontrado|cuento"
            rf" con)|ni hay)\b[^;]{{0,40}}?(?:{facts}|nada|suficiente|en (?:{sources})|acceso)",
            r"(?:yo )?no (?:\w+ )?(?:puedo|podemos|sé|conozco|se puede|podría|logré|pude|consigo|sabemos)\b[^;]{0,80}",
            rf"(?:sin|ninguna|ningún) (?:\w+ )?{facts}\b",
            r"nada (?:en|de|sobre|se dice|dicen)\b|en ninguna parte",
            r"no (?:mencionad|especificad|indicad|disponible|proporcionad|consta|aparece|figura)\w*"
            r"|desconocid\w+$|se desconoce$|información (?:insuficiente|no disponible)",
            r"no es posible (?:saber|determinar|decir|concluir|precisar)|(?:es )?imposible (?:saber|determinar|decir)",
            r"no (?:es|son) suficientes?\b|no basta",
            rf"[^;]{{0,100}}?\b(?:fuera del?|más allá de|excede)\b[^;]{{0,30}}(?:alcance|ámbito|{sources})",
            rf"no (?:en|por|según) (?:{sources})",
        ),
        meta=(
            r"(?:usted (?:pregunta|puede)|preguntas?|la pregunta|su pregunta|si (?:desea|quiere|quieres|tiene"
            r"|tienes|me)|no dude|por favor|puedo (?:ayudar|sin embargo|en cambio)|con gusto|gracias|consulte"
            r"|estaré|buena pregunta|puede consultar)\b",
            rf"(?:{sources}|ellos|estos|ambos|solo|sólo|únicamente)\b (?:\w+ )?(?:trat|habl|describ|se centr"
            rf"|abord|se refier|se ocup|estudi|discut|solo|sólo|únicamente|se limit)\w*|(?:se centran|tratan"
            rf"|hablan|se limitan|solo|sólo)\b",
            rf"(?:en|según|de acuerdo con|a partir de|con base en|basándome"
            rf" en)\b[^;]{{0,30}}?{sources}[^;]{{0,20}}$|(?:respecto|en cuanto|sobre)\b",
        ),
        stated=(
            r"\b(?:en general|generalmente|normalmente|típicamente|por lo general|habitualmente|es (?:bien"
            r" )?sabido|probablemente|creo que|la respuesta (?:correcta )?es|suele|suelen)\b"
            r"|^(?:pero )?(?:es|fue|era|eran|son) (?!imp|posible)"
        ),
        condition=r"(?:y |o |pero )?(?:si|cuando|siempre que|en caso de)\b",
        concession=r"(?:aunque|porque|ya que|dado que|puesto que|como|pues|mientras que|si bien|debido a que)\b",
        contrast=(
            r"(?:pero|sin embargo|sino|en cambio|ello|él|ella|ellos|es|son|fue|en general|normalmente|la respuesta"
            r"|y (?:usa|utiliza|entrena|se entrena|emplea|es))\b"
        ),
        finding=(
            r"(?:los |el |la )?(?:autores|estudio|investigadores)\b.{0,60}?(?:encontr|observ|hall|detect|mostr"
            r"|explicar)"
        ),
        asked=r"(?:cómo|qué|quién|cuál\w*|cuándo|dónde|cuánt\w+|si)\b",
        split=_SEPARATORS
        + (
            r"|\s(?=(?:pero|sino|aunque|porque|cuando|ya que|y (?:usa|utiliza|entrena|se entrena|emplea|por"
            r"|no))\b)"
        ),
    )


def _italian() -> Grammar:
    sources = (
        r"(?:(?:gli|i|le|il|lo|la|l'|questi|queste|questo|questa|nei|nelle|nel|nella|negli|dei|dai|dal|dalle"
        r"|dagli|nessun[oa]? (?:dei|degli|delle)) ?)?(?:(?:due|altri) )?"
        r"(?:articol[oi]|document[oi]|estratt[oi]|pass[io]|passagg[io]o?|test[oi]|contest[oi]|font[ei]"
        r"|stud[io]o?|pubblicazion[ei]|material[ei]|bran[oi]|autori|paper"
        rf"|informazioni (?:fornite|disponibili)|{QUOTED})(?: (?:fornit|dat|disponibil|mostrat|a disposizione"
        rf"|riportat|presentat|che ho|{QUOTED})\w*)?"
    )
    nothing = r"(?:non|nulla|niente|nessun[oa]?|né|mai)"
    tell = (
        r"(?:menzion|conteng|contien|indic|specific|dic|fornisc|offr|rispond|affront|parl|tratt|permett|riport"
        r"|inform|segnal|descriv|spieg|inclu|copr|cit|rivel|precis|dann|accenn|consent|compa|trov|figur|nomin"
        r"|aiut|fa\b|fann|dà|c'è|ci sono|aiut)"
    )
    facts = (
        r"(?:informazion[ei]|menzione|risposta|dettagli\w*|dat[oi]|indicazion[ei]|riferiment[oi]|passaggi\w*"
        r"|spiegazion[ei]|accenn[oi]|traccia)"
    )
    told = (
        r"(?:menzionat|indicat|specificat|fornit|affrontat|trattat|riportat|segnalat|descritt|spiegat|inclus|citat"
        r"|presente|presenti|disponibil|trovat|precisat|compare|figura|contenut)"
    )
    return Grammar(
        aside=r",? ?\b(?:a quanto (?:vedo|so)|per quanto (?:ne so|vedo|mi risulta))\b,?",
        intro=(
            r"(?:(?:purtroppo|mi dispiace|mi spiace|spiacente|sono spiacente|scusi|scusa|temo che|ma|e|quindi"
            r"|pertanto|perciò|tuttavia|sembra che|no|che|però|dunque"
            rf"|(?:secondo|in base a|sulla base d\w+|con) ?{sources}) ){{0,4}}"
        ),
        strong=(
            r"(?:io )?non (?:\w+ )?(?:posso|possiamo|si può|è possibile|può|so|sono in grado"
            r"|riesco)\b[^;]{0,60}?(?:rispondere|risposta|aiutar)",
            r"(?:questa|la|tua|sua) domanda\b[^;]{0,60}? (?:non|senza)\b[^;]{0,40}rispo|senza risposta",
            r"(?:mi )?è impossibile[^;]{0,20}? rispondere|impossibile rispondere",
            r"non (?:c'è|ho|esiste|trovo)\b[^;]{0,20}?risposta",
        ),
        silent=(
            rf"(?:in |secondo )?(?:{sources})\b[^;]{{0,60}}?\b{nothing}\b[^;]{{0,40}}?{tell}",
            rf"(?:{sources})\b[^;]{{0,40}}?\b(?:tacciono|tace|omett|insufficient)",
            rf"nessun[oa]? (?:dei|degli|delle|di) ?(?:\w+ )?(?:{sources}|questi|loro)",
            rf"non (?!c'è|ci sono)(?:si |ne |lo |la |viene |vengono |è |sono )*(?:{tell}|{told})\w*\b[^;]{{0,80}}?(?:$|(?:in"
            rf"|da|di|nei|nelle|nel|negli) ?(?:{sources}))",
            rf"[^;]{{1,200}}? non (?:si |è |sono |viene |vengono |è stat\w |sono stat\w )?(?:\w+mente"
            rf" )?(?:{told}\w*)(?:$|[^;]{{0,30}}? (?:in|nei|nelle|nel|negli|qui|dagli|dai)\b)",
            rf"(?:non (?:c'è|ci sono|ho|trovo|vedo|esiste|esistono|dispongo|si trova|si trovano|ho"
            rf" trovato))\b[^;]{{0,40}}?(?:{facts}|nulla|niente|abbastanza|sufficient|nei|nel|negli|accesso)",
            r"(?:io )?non (?:\w+ )?(?:posso|possiamo|so|conosco|si può|potrei|riesco|sappiamo|lo so)\b[^;]{0,80}",
            rf"(?:senza|nessuna?|nessun) (?:\w+ )?{facts}\b",
            r"(?:nulla|niente) (?:in|nei|negli|nelle|su|di|si dice|viene)\b|da nessuna parte",
            r"non (?:menzionat|specificat|indicat|disponibil|fornit|riportat|noto|nota)\w*(?:$| (?:in|nei|nel"
            r"|negli)\b)|sconosciut\w+$|informazioni? (?:insufficient|non disponibil)\w+",
            r"non è possibile (?:sapere|determinare|dire|concludere|stabilire)|(?:è )?impossibile (?:sapere"
            r"|determinare|dire)",
            r"non (?:è|sono) (?:sufficient|abbastanza)\w*\b|non basta",
            rf"[^;]{{0,100}}?\b(?:al di fuori|fuori d\w+|oltre|esula)\b[^;]{{0,30}}(?:ambito|portata|{sources})",
            rf"non (?:in|nei|negli|nel|nelle|secondo) ?(?:{sources})",
        ),
        meta=(
            r"(?:lei (?:chiede|può)|chiedi|la domanda|se (?:vuole|vuoi|desidera|hai|ha|mi)|per favore|posso"
            r" (?:però|invece|aiutar)|volentieri|grazie|consult\w+|sarò|buona domanda|può consultare)\b",
            rf"(?:{sources}|essi|questi|entrambi|solo|soltanto|si)\b (?:\w+ )?(?:tratt|parl|descriv|concentra"
            rf"|affront|riguard|occup|studi|discut|solo|soltanto|limit)\w*",
            rf"(?:in|secondo|in base a|sulla base d\w+|dai|dal|nei|negli)\b[^;]{{0,30}}?{sources}[^;]{{0,20}}$"
            rf"|(?:riguardo|quanto a|per quanto riguarda)\b",
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


EUROPEAN = {"de": _german(), "fr": _french(), "es": _spanish(), "it": _italian()}
