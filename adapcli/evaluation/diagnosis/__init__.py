"""Is a checkpoint healthy? One check per way in which once-for-all training is known to fail.

check.py    a verdict, and the record of all of them
answers.py  decided from an outcome table: low tokens, widths, calibration
latents.py  decided by running the model: specialisation, prefixes, more tokens than trained for
memory.py   decided by measuring: memory by batch size
"""
