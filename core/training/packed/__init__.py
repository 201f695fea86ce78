"""Loss and gradient of soft prompts on a GPU in 16 bits, with all sequences end to end.

Nothing is padded, attention knows where each sequence begins, the layers are written out in few kernels
(`core.model.llama`), and what recurs is recorded: to ask for a thousand short kernels takes longer than to run them.
"""
