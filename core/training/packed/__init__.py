"""Loss and gradient of soft prompts on a GPU in 16 bits, all sequences end to end, with the model's layers written out.

A step on short problems is little work for a GPU: what takes the time is padding, passes over memory between the matrix
products, and the asking for thousands of short kernels. So nothing is padded, attention knows where each sequence
begins, and a layer is as few kernels as torch has for it. The sums are those of the model's own forward pass and
autograd, in another order.
"""
