"""How Spanish refuses. See ``refusal_grammar`` for the parts."""

from mlx_ragtune.scoring.answers.refusal_grammar import QUOTED, Grammar

_SEPARATORS = r"[,;:()\[\]—–¿¡]+| - "
_SOURCES = (
    r"(?:(?:los|las|el|la|estos|estas|este|esta|esos|mis|sus|del|al|ningun[oa] de (?:los|las|estos))"
    r" )?(?:(?:dos|otros|demás|\w+ados?) )?"
    r"(?:artículos?|documentos?|extractos?|pasajes?|textos?|contextos?|fuentes?|estudios?|publicaciones"
    r"|trabajos?|materiales|material|fragmentos?|autores|papers?"
    rf"|información (?:proporcionada|disponible|dada)|{QUOTED})(?: (?:proporcionad|dad|disponibl"
    rf"|suministrad|facilitad|mostrad|recuperad|aportad|citad)\w+| que tengo| {QUOTED})?"
)
_NOTHING = r"(?:no|nada|ningun[oa]s?|ningún|tampoco|nunca|ni)"
_TELL = (
    r"(?:mencion|precis|concret|contien|indic|especific|dic|proporcion|ofrec|respond|abord|habl|trat"
    r"|permit|report|inform"
    r"|señal|describ|explic|inclu|cubr|cit|revel|da\b|dan\b|aport|refier|hac|detall|aclar|recog|aparec"
    r"|encuentr|figur|nombr|alud|ayud|tien)"
)
_FACTS = (
    r"(?:información|mención|respuesta|detalles?|datos?|indicación|referencias?|pasaje|explicación|evidencia"
    r"|menciones|pista)"
)
_TOLD = (
    r"(?:mencion|precis|concret|indic|especific|proporcion|abord|trat|report|inform|señal|describ|explic"
    r"|inclu|cubiert|cit"
    r"|aparec|encuentr|figur|disponible|present|detall|recog|dic)"
)

SPANISH = Grammar(
    aside=r",? ?\b(?:que yo sepa|hasta donde (?:sé|puedo ver)|por lo que veo)\b,?",
    intro=(
        r"(?:(?:lamentablemente|desafortunadamente|por desgracia|lo siento|lo siento mucho|disculpe|perdón"
        r"|me temo que|lamento decir que|pero|y|así que|por (?:lo )?tanto|sin embargo|no obstante|parece"
        r" que|que|entonces|por eso|bueno"
        rf"|(?:según|en|de acuerdo con|a partir de|con|basándome en) {_SOURCES}) ){{0,4}}"
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
        rf"(?:en |según )?(?:{_SOURCES})\b[^;]{{0,60}}?\b{_NOTHING}\b[^;]{{0,40}}?{_TELL}",
        rf"(?:{_SOURCES})\b[^;]{{0,40}}?\b(?:guardan? silencio|omite|callan?|insuficientes?)",
        rf"ningun[oa] (?:de (?:los|las|estos|estas|ellos) )?(?:\w+ )?(?:{_SOURCES}|{_TELL})",
        rf"no (?:se )?(?:lo |la )?{_TELL}\w*\b[^;]{{0,80}}?(?:$|(?:en|de|por) (?:{_SOURCES}))",
        rf"[^;]{{1,200}}? no (?:se |está |están |ha sido |han sido |es |fue )?(?:\w+mente )?{_TOLD}\w*(?:$"
        rf"|[^;]{{0,30}}? (?:en|por|ahí|aquí)\b)",
        rf"(?:no (?:hay|tengo|encuentro|veo|existe|existen|dispongo de|se dispone de|he encontrado|cuento"
        rf" con)|ni hay)\b[^;]{{0,40}}?(?:{_FACTS}|nada|suficiente|en (?:{_SOURCES})|acceso)",
        r"(?:yo )?no (?:\w+ )?(?:puedo|podemos|sé|conozco|se puede|podría|logré|pude|consigo|sabemos)\b[^;]{0,80}",
        rf"(?:sin|ninguna|ningún) (?:\w+ )?{_FACTS}\b",
        r"nada (?:en|de|sobre|se dice|dicen)\b|en ninguna parte",
        r"no (?:mencionad|especificad|indicad|disponible|proporcionad|consta|aparece|figura)\w*"
        r"|desconocid\w+$|se desconoce$|información (?:insuficiente|no disponible)",
        r"no es posible (?:saber|determinar|decir|concluir|precisar)|(?:es )?imposible (?:saber|determinar|decir)",
        r"no (?:es|son) suficientes?\b|no basta",
        rf"[^;]{{0,100}}?\b(?:fuera del?|más allá de|excede)\b[^;]{{0,30}}(?:alcance|ámbito|{_SOURCES})",
        rf"no (?:en|por|según) (?:{_SOURCES})",
    ),
    meta=(
        r"(?:usted (?:pregunta|puede)|preguntas?|la pregunta|su pregunta|si (?:desea|quiere|quieres|tiene"
        r"|tienes|me)|no dude|por favor|puedo (?:ayudar|sin embargo|en cambio)|con gusto|gracias|consulte"
        r"|estaré|buena pregunta|puede consultar)\b",
        rf"(?:{_SOURCES}|ellos|estos|ambos|solo|sólo|únicamente)\b (?:\w+ )?(?:trat|habl|describ|se centr"
        rf"|abord|se refier|se ocup|estudi|discut|solo|sólo|únicamente|se limit)\w*|(?:se centran|tratan"
        rf"|hablan|se limitan|solo|sólo)\b",
    ),
    adjunct=(
        rf"(?:en|según|de acuerdo con|a partir de|con base en|basándome"
        rf" en)\b[^;]{{0,30}}?{_SOURCES}[^;]{{0,20}}$|(?:respecto|en cuanto|sobre)\b"
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
