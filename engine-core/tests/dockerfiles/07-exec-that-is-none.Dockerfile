FROM busybox
RUN [ -d /tmp ] && echo yes
CMD ['single', 'quotes']
