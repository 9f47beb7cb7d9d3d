"""Language models behind one face. `base` is the protocol, the others each wrap one library."""
