"""How French refuses. See ``refusal_grammar`` for the parts."""

from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED, Grammar

_SEPARATORS = r"[,;:()\[\]—–¿¡]+| - "
_SOURCES = (
    r"(?:(?:les|des|ces|la|le|du|cet?|cette|aux|au|mes|vos|aucun\w* (?:de ces|des|de)|l'|d'|tous les)"
    r" ?)?(?:(?:autres?|deux|seuls?|différents?|\d+) )?"
    r"(?:articles?|documents?|extraits?|passages?|textes?|contextes?|sources?|papiers?|études?"
    r"|publications?|matériaux|documentation|auteurs?"
    rf"|éléments|informations (?:fournies|données)|{QUOTED})(?: (?:fournis?|donnés?|présentés?|disponibles?"
    rf"|ci-dessus|proposés?|mentionnés?|transmis|à ma disposition|dont je dispose|\w+[ée]e?s|{QUOTED}))?"
)
_NOTHING = r"(?:pas|rien|aucune?s?|jamais|ni|nulle part|guère|point|nullement)"
_TELL = (
    r"(?:mentionn|contienn|contient|indiqu|précis|dis(?:ent)?\b|dit\b|fourni|donn|répond|abord|parl|trait"
    r"|permett|permet|évoqu|rapport|signal"
    r"|décri|expliqu|compren|inclu|couvr|cit|révèl|fait|font|comport|renseign|livr|apport|spécifi|détaill"
    r"|figur|trouv|offr|suffi|port|concern|aid|nomm|propos|a\b|ont\b)"
)
_FACTS = (
    r"(?:informations?|mention|réponse|détails?|données?|indication|précision|élément|trace|référence|passage"
    r"|renseignement|explication)s?"
)
_TOLD = (
    r"(?:mentionn|indiqu|précis|fourni|donn|abord|trait|évoqu|rapport|signal|décri|expliqu|inclu|couvert|cit"
    r"|spécifi|trouv|disponible|présent|contenu|détaill|dans)"
)

FRENCH = Grammar(
    aside=r",? ?\b(?:à ma connaissance|pour autant que je sache|autant que je puisse voir|à vrai dire)\b,?",
    intro=(
        r"(?:(?:malheureusement|désolée?|je suis (?:vraiment |navrée?|désolée?)?|je regrette|mais|et|donc"
        r"|or|non|par conséquent|ainsi|toutefois|cependant|hélas|il semble que|je crains que|"
        r"excusez-moi|navrée?|c'est pourquoi|de ce fait|d'après|selon|dans|sur la base de|à partir de|avec"
        rf"|que|{_SOURCES}|pardon|il semblerait que|en effet) ?){{0,4}}"
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
        rf"(?:dans |selon |d'après )?(?:{_SOURCES})\b[^;]{{0,60}}?\b(?:ne "
        rf"|n')[^;]{{0,80}}?{_TELL}\w*[^;]{{0,40}}?\b{_NOTHING}\b",
        rf"(?:{_SOURCES})\b[^;]{{0,60}}?\b(?:ne |n')[^;]{{0,20}}?\b{_NOTHING}\b[^;]{{0,20}}?{_TELL}",
        rf"(?:ils|elles|il|elle|ceux-ci|celui-ci) (?:ne |n')[^;]{{0,30}}?(?:mentionn|dis|dit|indiqu|précis"
        rf"|parl|abord|évoqu|rapport|contienn|fourni|donn)\w*[^;]{{0,20}}?{_NOTHING}",
        rf"(?:{_SOURCES})\b[^;]{{0,40}}?(?:muets?|muettes?|silencieux|insuffisants?|insuffisantes?"
        r"|reste(?:nt)? vague|passe(?:nt)? sous silence|omet)",
        rf"aucune? (?:des |de ces |de |d')?(?:{_SOURCES})[^;]{{0,30}}?(?:ne |n')",
        rf"(?:ni )?(?:{_SOURCES}) ni ",
        rf"[^;]{{1,200}}? (?:n'est|n'a été|ne sont|n'ont été|n'apparaî\w+|ne figur\w+|ne se trouv\w+"
        rf"|n'était|ne ressort) ?(?:\w+ment )?{_NOTHING}\b ?[^;]{{0,20}}?(?:{_TOLD}\w*(?:$|"
        rf" [^;]{{0,30}}?(?:dans|par|ici))|(?:dans|par|parmi) )",
        r"(?:il n'y a|il n'existe|je n'ai|je ne trouve|je ne vois|on ne trouve|je ne dispose|nous n'avons"
        rf"|il n'est fait)\b ?[^;]{{0,20}}?{_NOTHING}\b[^;]{{0,20}}?(?:{_FACTS}|dans|sur|d'accès)",
        r"(?:je|j'|on|nous) ?(?:ne|n') ?(?:peux|puis|saurais|pourrais|sais|peut|saurait|pourrait|connais"
        r"|trouve|vois|ai|dispose|suis)\b[^;]{0,80}",
        rf"(?:aucune?|pas d'|pas de|nulle?) ?(?:autre )?{_FACTS}\b",
        r"(?:rien|nulle part)\b[^;]{0,60}?(?:dans|de ces|sur|à ce sujet)",
        r"(?:non|pas) (?:mentionn|précis|indiqu|spécifi|fourni|disponible|traité|abord)\w*|information"
        r" (?:non |in)(?:disponible|suffisante|fournie)|inconnu\w*$",
        r"(?:pas assez|pas suffisamment|trop peu|insuffisamment) d'[^;]{0,20}?(?:informations?|éléments"
        r"|contexte|détails)",
        r"(?:il (?:ne |n')?(?:m')?(?:est|serait)? ?(?:donc |pas )?)?(?:impossible|pas possible)[^;]{0,20}?"
        r" (?:de |d')(?:dire|savoir|détermin|conclu|préciser|connaître|trouver|établir|le )",
        rf"[^;]{{0,100}}?\b(?:hors du|en dehors d\w+|sort\w* d[ue]\w*|dépasse|au-delà"
        rf" d\w+)\b[^;]{{0,30}}(?:cadre|champ|{_SOURCES})",
        r"il n'est (?:pas|jamais|nulle part) (?:\w+ment )?(?:indiqu|précis|mentionn|spécifi|dit|expliqu"
        r"|signal)\w* (?:quel|comment|qui"
        r"|combien|pourquoi|où|quand|si|ce)",
        r"(?:on |nous |l'on |j')ignor\w+ (?:quel|comment|qui|combien|pourquoi|où|quand|si|ce)",
        rf"[^;]{{1,150}}? (?:n'est|n'a été|ne sont|n'ont été) {_TOLD}\w* nulle part",
        r"[^;]{0,120}? ne (?:m'a|nous a|m'ont) pas été (?:fourni|donné|transmis|communiqué)\w*",
        rf"[^;]{{1,150}}? (?:n'est|n'a été|ne sont|n'ont été) {_TOLD}\w* (?:dans|par) aucune?\b",
        rf"pas (?:dans|par|d'après) (?:{_SOURCES})",
        r"(?:on|nul|personne) (?:ne|n')[^;]{0,20}?(?:sait|peut)",
    ),
    meta=(
        r"(?:vous (?:demandez|pouvez|voulez|pourriez)|la question|votre question|n'hésitez|veuillez|si"
        r" vous|je peux (?:toutefois|cependant|en revanche|vous)|je serais|merci|consultez|bonne question"
        r"|essayez)\b",
        rf"(?:{_SOURCES}|ils|elles|il|elle|ceux-ci)\b (?:\w+ )?(?:port|trait|parl|abord|décri|se concentr|se"
        r" limit|concern|s'intéress|étudi|discut|évoqu|ne (?:\w+ )?que|uniquement|seulement)\w*",
    ),
    adjunct=(
        rf"(?:dans|selon|d'après|sur la base de|à partir de|au vu de)\b[^;]{{0,30}}?{_SOURCES}[^;]{{0,20}}$"
        r"|(?:concernant|quant à|pour ce qui)\b"
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
    excluded=r"(?:et |mais )?(?:pas|non|ni)\b",
    asked=r"(?:comment|qui|quel\w*|quand|pourquoi|où|combien|si)\b",
    split=_SEPARATORS
    + (
        r"|\s(?=(?:mais|cependant|bien que|parce que|car|puisque|lorsqu|quand|et (?:utilise|entraîne"
        r"|s'entraîne|emploie|repose|je|donc))\b)"
    ),
)
