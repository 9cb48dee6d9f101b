"""Smaller versions of a model: quantizing with the kit's llama.cpp, importance matrices, what each type costs."""
