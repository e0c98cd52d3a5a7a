"""Observation: all that the analysis needs of one model, from one forward pass over the measured sentences.

``python -m langmerge.observation`` reads teacher-forced sentences with one model and stores pooled hidden states,
counts of what units do at five sites, and losses. What is measured of these files is decided later, by stages that run
no model: a new measure reads no sentence again, and a new model is observed alone.
"""
