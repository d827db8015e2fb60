"""Full-text retrieval: BM25 and its postings."""
