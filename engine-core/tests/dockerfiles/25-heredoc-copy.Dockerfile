FROM busybox
ARG WHO=world
COPY <<hello.txt <<"raw.txt" /dest/
hello $WHO
hello.txt
hello $WHO
raw.txt
COPY <<-EOF /script.sh
	#!/bin/sh
	echo done
EOF
ADD <<EOF /added
text
EOF
