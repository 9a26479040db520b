# escape=`
FROM busybox
WORKDIR /data\files
RUN echo one `
    two `
    three
ENV GREETING=hello` world
COPY dir\file /dest\
