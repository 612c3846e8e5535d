"""Papers in: PDF, Markdown, text and HTML as documents and chunks."""
