"""The retriever of a finished corpus, with the embedding model and the reranker that the recipe names."""
