FROM busybox
RUN --mount=type=secret,id=token cat /run/secrets/token
RUN --mount=type=secret,id=token,target=/etc/token,required=true,mode=0400,uid=1 cat /etc/token
RUN --mount=type=secret,id=password,env=PASSWORD echo "${#PASSWORD}"
RUN --mount=type=ssh ssh-add -l
RUN --mount=type=tmpfs,target=/tmp,size=64m df /tmp
