r"""What LaTeX commands and environments do with their arguments, as tables.

An argument list is written as in xparse: ``s`` a star, ``o`` an optional argument in brackets, ``m`` an argument,
``p`` an optional one in parentheses.
"""


def _table(text: str) -> dict[str, str]:
    """``name:arguments`` words as a dictionary."""
    return {name: arguments for name, _, arguments in (word.partition(":") for word in text.split())}


GOBBLED = _table(
    "label:m vspace:sm hspace:sm vskip: hskip: usepackage:om RequirePackage:om documentclass:om documentstyle:om "
    "bibliographystyle:m pagestyle:m thispagestyle:m pagenumbering:m setlength:mm addtolength:mm setcounter:mm "
    "addtocounter:mm stepcounter:m refstepcounter:m newcounter:mo newlength:m settowidth:mm color:om definecolor:mmm "
    "colorlet:mm cellcolor:om rowcolor:om columncolor:om arrayrulecolor:om rowcolors:ommm hypersetup:m graphicspath:m "
    "tikzset:m pgfplotsset:m usetikzlibrary:m usepgfplotslibrary:m lstset:m lstdefinestyle:mm captionsetup:om "
    "markboth:mm markright:m addcontentsline:mmm phantomsection: hyphenation:m phantom:m hphantom:m vphantom:m "
    "rule:omm cline:m cmidrule:opm specialrule:mmm index:m glsadd:m nocite:m geometry:m setstretch:m linespread:m "
    "fontsize:mm fontfamily:m fontseries:m fontshape:m selectfont: newcolumntype:mom DeclareGraphicsExtensions:m "
    "DeclareGraphicsRule:mmmm sisetup:m crefname:mmm Crefname:mmm newfloat:mmm floatname:mm setcitestyle:m "
    "bibpunct:mmmmmm addbibresource:om theoremstyle:m newmdenv:om declaretheorem:om setlist:om titleformat:smmmmmo "
    "titlespacing:smmmmo allowdisplaybreaks:o includecomment:m excludecomment:m numberwithin:mm counterwithin:smm "
    "enlargethispage:sm looseness: pdfbookmark:omm hypertarget:m Needspace:m needspace:m vcenter: acmConference:ommm "
    "setcopyright:m copyrightyear:m acmYear:m acmDOI:m acmISBN:m acmPrice:m acmBooktitle:m acmJournal:m ccsdesc:om "
    "received:om acmSubmissionID:m settopmatter:m titlerunning:m authorrunning:m icmltitlerunning:m "
    "icmlsetsymbol:mm PassOptionsToPackage:mm AtBeginDocument:m AtEndDocument:m ExplSyntaxOn: ExplSyntaxOff: "
    "providecolor:mmm aboverulesep: belowrulesep: tabcolsep: arraystretch: pdfinfo:m patchcmd:mmmmm "
    "restylefloat:m floatstyle:m algrenewcommand:mm algnewcommand:mm DeclareMathAlphabet:mmmmm SetMathAlphabet:mmmmmm "
    "DeclareSymbolFont:mmmmm DeclareMathSymbol:mmmm DeclareFontShape:mmmmmm DeclareUnicodeCharacter:mm inputenc:m "
    "endnote:m newblock: balance: flushbottom: raggedbottom: hbadness: vbadness: thanksref:m corref:m fnref:m "
    "ead:om cortext:om journal:m cref@label:m tabularnewline:o morecmidrules: bookmarksetup:m marginpar:om"
)
"""Commands that print nothing, with their arguments."""
KEPT = _table(
    "textcolor:omm href:omm colorbox:mm fcolorbox:mmm multirow:omomm resizebox:smmm scalebox:mom rotatebox:omm "
    "parbox:ooomm makebox:oom framebox:oom raisebox:moom adjustbox:mm hyperref:om hyperlink:mm makecell:som "
    "shortstack:om texorpdfstring:mm foreignlanguage:mm fontencoding:m subfloat:oom subfigure:oom subtable:oom "
    "acro:m gls:om Gls:om acrshort:om acrlong:om mbox:m textls:om tcbox:om multicolumn:mmm nolinkurl:m path:m url:m "
    "pbox:mm rlap:m llap:m smash:om uppercase:m lowercase:m MakeUppercase:m MakeLowercase:m textsc:m hl:m lstinline:om "
    "mintinline:omm diagbox:omm cellcolour:m footnotesize:  newterm:m tnote:m tablefootnote:m todoinline:m"
)
"""Commands that print their last argument."""
NOTES = _table("todo:om missingfigure:om fixme:om hidefromtoc:m")
"""Notes of the authors to themselves."""
NEWLINES = {"newline", "linebreak", "par", "medskip", "smallskip", "bigskip", "newpage", "clearpage", "cleardoublepage",
            "pagebreak", "noindent", "indent", "and", "And", "AND"}  # fmt: skip
PARAGRAPHS = {"par", "medskip", "smallskip", "bigskip", "newpage", "clearpage", "cleardoublepage", "pagebreak"}
SPACES = {
    " ",
    "\n",
    "\t",
    ",",
    ";",
    ":",
    "quad",
    "qquad",
    "enspace",
    "enskip",
    "thinspace",
    "space",
    "nobreakspace",
    ">",
}
SECTIONS = {"part": 0, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4}
"""Commands that print a heading, with their level."""
RUN_IN = {"paragraph", "subparagraph"}
"""Headings that stand in the line of their text: no section of their own."""
DISPLAYS = {
    "equation", "align", "gather", "multline", "eqnarray", "displaymath", "flalign", "alignat", "dmath", "subequations",
    "IEEEeqnarray", "dgroup", "xalignat",
}  # fmt: skip
"""Environments of displayed formulas."""
ROWWISE = {"align", "gather", "eqnarray", "flalign", "alignat", "IEEEeqnarray"}
"""Displays with a number on each row."""
TABULARS = _table(
    "tabular:om tabular*:mom tabularx:mom longtable:om tabulary:mm xltabular:mom supertabular:m array:om tabu:m "
    "longtabu:m NiceTabular:om tblr:om threeparttablex: mpxtabular:m"
)
"""Environments of tables, with what stands before the first cell."""
DRAWINGS = {
    "tikzpicture",
    "pgfpicture",
    "picture",
    "forest",
    "axis",
    "tikzcd",
    "circuitikz",
    "pspicture",
    "CCSXML",
    "asy",
}
VERBATIMS = {"verbatim", "Verbatim", "lstlisting", "minted", "alltt", "BVerbatim", "SaveVerbatim", "spverbatim"}
ENVIRONMENTS = _table(
    "minipage:ooom wrapfigure:omom wraptable:omom subfigure:oom subtable:oom multicols:mo adjustbox:m spacing:m "
    "tcolorbox:o mdframed:o framed: center: flushleft: flushright: figure:o table:o figure*:o table*:o sidewaystable:o "
    "sidewaysfigure:o algorithm:o algorithm*:o algorithmic:o algorithm2e:o threeparttable:o tablenotes:o itemize:o "
    "enumerate:o description:o compactitem:o compactenum:o inparaenum:o landscape: quote: quotation: abstract: "
    "resizebox:mm scope:o samepage: small: footnotesize: scriptsize: tiny: singlespace: appendices: subappendices: "
    "SCfigure:oo SCtable:oo floatrow:o boxedminipage:om list:mm trivlist: titlepage: document: keyword: keywords: "
    "IEEEkeywords: frontmatter: strip: otherlanguage:m hyphenrules:m sloppypar: group: refsection:o Shaded: "
    "Highlighting:o subsections: ack: acks: acknowledgments: acknowledgements: acknowledgement: "
    "proof:o listing:o"
)
"""Other environments, with arguments that are not text."""
FLOATS = {"figure": "Figure", "table": "Table", "algorithm": "Algorithm", "listing": "Listing"}
"""What a caption starts with, by the environment."""
LISTS = {"itemize": "-", "compactitem": "-", "enumerate": "1", "compactenum": "1", "inparaenum": "1",
         "description": "-", "list": "-", "trivlist": "-", "tablenotes": "-"}  # fmt: skip
NAMED_ENVIRONMENTS = {
    "abstract": "Abstract", "ack": "Acknowledgments", "acks": "Acknowledgments", "acknowledgments": "Acknowledgments",
    "acknowledgements": "Acknowledgements", "acknowledgement": "Acknowledgment",
}  # fmt: skip
"""Environments that print a heading."""
ALGORITHMIC = {
    "state": "", "statex": "", "require": "Require:", "ensure": "Ensure:", "input": "Input:", "output": "Output:",
    "for": "for", "forall": "for all", "endfor": "", "while": "while", "endwhile": "", "if": "if", "elsif": "else if",
    "else": "else", "endif": "", "repeat": "repeat", "until": "until", "loop": "loop", "endloop": "",
    "return": "return", "function": "function", "endfunction": "", "procedure": "procedure", "endprocedure": "",
    "print": "print",
}  # fmt: skip
"""Commands of algorithms in lower case: each starts a line with this word."""
TITLES = {"title", "icmltitle", "Title", "TITLE"}
AUTHORS = {"author", "Author", "authors", "icmlauthor", "IEEEauthorblockN", "name", "AUTHOR"}
CITES = {
    "cite", "citep", "citet", "citealp", "citealt", "citeauthor", "citeyear", "citeyearpar", "parencite", "textcite",
    "autocite", "footcite", "Cite", "Citet", "Citep", "citeA", "shortcite", "newcite", "citenum", "supercite",
    "Textcite", "Parencite", "fullcite", "citeposs", "onlinecite", "shortciteA", "citeN", "possessivecite",
}  # fmt: skip
TEXTUAL = {"citet", "textcite", "Citet", "Textcite", "citeA", "newcite", "shortciteA", "citeN", "citealt", "onlinecite"}
REFS = {
    "ref",
    "eqref",
    "autoref",
    "cref",
    "Cref",
    "pageref",
    "nameref",
    "vref",
    "subref",
    "labelcref",
    "fullref",
    "hyperref",
}
UNITS = {
    "percent": "%", "degree": "°", "celsius": "°C", "degreeCelsius": "°C", "per": "/", "micro": "µ", "kilo": "k",
    "mega": "M", "giga": "G", "milli": "m", "centi": "c", "nano": "n", "second": "s", "meter": "m", "metre": "m",
    "gram": "g", "hertz": "Hz", "hour": "h", "minute": "min", "watt": "W", "volt": "V", "joule": "J", "byte": "B",
    "bit": "bit", "kilogram": "kg", "ohm": "Ω", "ampere": "A", "kelvin": "K", "mole": "mol", "newton": "N",
    "pascal": "Pa", "liter": "L", "litre": "L", "square": "", "squared": "^2", "cubed": "^3", "tera": "T", "day": "d",
}  # fmt: skip
"""Units and prefixes of siunitx."""
