FROM busybox AS files
RUN echo x > /x
FROM busybox
RUN --mount=target=/src ls /src
RUN --mount=type=bind,source=dir,target=/dir,readonly ls /dir
RUN --mount=type=bind,from=files,source=/x,target=/y,rw cat /y
