FROM busybox
RUN echo a \
    # a comment in the middle
    && echo b \
  && echo \
       c
ENV ONE=1 \
    TWO=2 \
    THREE="3 4"
LABEL a=b \
      c=d
