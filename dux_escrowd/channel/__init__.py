"""Pay-per-call channels: one payer, one payee, one direction; what each side decides and writes before what.

`model` holds the nouns, `facts` what can happen, `orders` what is to be done, `payer` and `payee` the two tables: all
of it pure. The other modules keep books and carry orders out. Source: channel_protocol.md.
"""
