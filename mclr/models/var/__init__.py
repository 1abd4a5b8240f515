"""VAR: multi-scale tokenizer and next-scale transformer; import the modules directly."""
