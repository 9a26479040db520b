FROM busybox
RUN echo a \
    b
ENV A=1
COPY <<EOF /x
text
EOF
