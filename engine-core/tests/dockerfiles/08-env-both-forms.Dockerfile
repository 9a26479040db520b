FROM busybox
ENV NAME value with spaces
ENV A=1 B="two words" C='single $A' D=esc\ aped
ENV EMPTY=
ENV PATH=/opt/bin:$PATH
