FROM busybox
ARG ID=cache UID_OF_CACHE=1000
ENV TARGET=/target
RUN --mount=type=cache,id=${ID}-v1,target=$TARGET,uid=${UID_OF_CACHE} ls $TARGET
