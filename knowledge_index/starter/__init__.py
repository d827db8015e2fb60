"""The starter evidence base: real PMIDs with MeSH headings, each finding in one sentence of our own.

`articles/*.jsonl` is written by hand (decision 0003); `index/` is built from it by `python -m knowledge_index.starter`.
"""
