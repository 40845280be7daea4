"""Our models and training beside Hugging Face's own: what differs, and by how much.

    found = toolkit.compare_backends("tiny-shakespeare", "char", size="nano", steps=50)
    found.largest_loss_difference, found.first_step

`training` runs both, `differences` compares the numbers of one forward and backward pass, and
`measurements` times and weighs. What depends on the kind of model is in `compared`.
"""
