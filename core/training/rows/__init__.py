"""Loss and gradient of soft prompts on a CPU, a few sequences at a time, with the model's layers written out.

A soft prompt sees nothing but itself, so its keys and values are computed once a step and every sequence attends to
them; what the sequences send back goes through the soft prompt's own layers once, too. So nothing is padded, nothing is
computed twice, and sequences are independent: each core takes some, end to end, so that products are large, and waits
for no other core inside a layer. The sums are those of the model's own forward pass and autograd, in another order.
"""
