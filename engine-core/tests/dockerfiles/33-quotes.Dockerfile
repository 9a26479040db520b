FROM busybox
ENV A="double \"quoted\" $HOME" B='single "quoted"' C=mixed"$A"'$B'
RUN echo "it's" 'a "test"' \\ \"
LABEL text="line \
continued"
