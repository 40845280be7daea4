"""The exercises of each page, one module a page: right functions, inputs, known mistakes."""
