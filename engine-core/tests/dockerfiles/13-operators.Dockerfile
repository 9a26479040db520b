FROM busybox
ARG FILE=/usr/share/doc/readme.txt.gz
ARG EMPTY=
WORKDIR ${DIR:-/work}
ENV A=${FILE##*/} B=${FILE%.*} C=${FILE%%.*} D=${FILE#/usr}
ENV E=${FILE/readme/README} F=${FILE//\//-}
ENV G=${EMPTY:-fallback} H=${EMPTY-kept} I=${FILE:+set} J=${UNSET+set}
ENV K="${FILE:?must be there}" L=\$FILE M='$FILE' N=${OUTER:-${INNER:-deep}}
