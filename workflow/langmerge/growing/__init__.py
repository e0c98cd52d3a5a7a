"""The `growing` stage: larger Llama-type decoders from the weights of smaller ones, in width or in depth.

Growing is a pure function of weights by name and configuration (:mod:`langmerge.growing.methods` lists them by name);
:mod:`langmerge.growth` has the parameters. Optimizer states are not grown: training starts anew.
"""
