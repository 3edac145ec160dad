"""A smaller vocabulary: which word pieces stay, and the tokenizer and the tables that go with them."""
