from busybox as one
run echo lower
copy a b
From one As two
Run echo mixed
