"""The formats that papers may have, by suffix; nothing is imported, so that listing a folder is quick."""

SUFFIXES = (".pdf", ".md", ".txt", ".html", ".htm", ".xhtml", ".docx", ".epub")
