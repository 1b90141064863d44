"""What all stems share, in three forms: elementary functions, the normal distribution, Philox, codecs, reductions."""
