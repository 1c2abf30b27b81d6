{{/* What the router knows of a request. A map is worked out when it is needed, once a request. */}}
{{- define "platform.router.maps" -}}
# Never the client's Host: its port is lost on the way, and it may be another one than that of the request line.
map $uuid $session_host {
  default "vs-code-$uuid.{{ .Values.config.sessions.domain }}";
}
map $uuid $session_hostname {
  default "vs-code-$uuid.{{ include "platform.hostname" . }}";
}

map $http_upgrade $websocket {
  default "";
  "~*^websocket$" websocket;
}
map $websocket $connection_header {
  default "";
  websocket upgrade;
}
# Whatever else is said of it: a WebSocket is nobody who opens a page.
map $websocket $fetch_mode {
  default $http_sec_fetch_mode;
  websocket websocket;
}

map $http_cookie $session_cookie {
  default "";
  "~(?:^|;)[ \t]*__Host-session=(?<given_session>[A-Za-z0-9._~+/=-]{1,2048})[ \t]*(?:;|$)" $given_session;
}
map $http_cookie $session_state {
  default "";
  "~(?:^|;)[ \t]*__Host-session-state=(?<given_state>[A-Za-z0-9_-]{16,128})[ \t]*(?:;|$)" $given_state;
}
map $session_state $login_state {
  default $session_state;
  "" $request_id;
}

# One cookie at a time is taken out. Where one of ours is left after that, the pod gets none.
map $http_cookie $with_one_less {
  default $http_cookie;
  "~^(?<before_first>(?:.*;)?)[ \t]*__Host-session(?:-state)?[ \t]*=[^;]*;?(?<after_first>.*)$" $before_first$after_first;
}
map $with_one_less $with_two_less {
  default $with_one_less;
  "~^(?<before_second>(?:.*;)?)[ \t]*__Host-session(?:-state)?[ \t]*=[^;]*;?(?<after_second>.*)$" $before_second$after_second;
}
map $with_two_less $cookies_for_pod {
  default $with_two_less;
  "~*__Host-session" "";
}
# The address of a login holds its code.
map $http_referer $referer_for_pod {
  default $http_referer;
  "~/_session/" "";
}

map "$http_origin#https://$session_host" $origin {
  default foreign;
  "~^#" none;
  "~^null#" opaque;
  "~^(.+)#\1$" ours;
}
# Other sessions are the same site to a browser, so their pages come with the cookie of this one. They may lead somebody
# here, by a link, and nothing else.
map "$websocket|$request_method|$http_sec_fetch_site|$http_sec_fetch_mode|$http_sec_fetch_dest|$origin" $cross_site {
  default 1;
  "~^websocket\|GET\|.*\|ours$" "";
  "~^websocket\|" 1;
  "~\|foreign$" 1;
  "~^\|[A-Z]+\|(?:same-origin|none)\|" "";
  "~^\|(?:GET|HEAD)\|[^|]+\|navigate\|document\|" "";
  # Browsers that say nothing of where a request comes from still name the origin of what may change something.
  "~^\|[A-Z]+\|\|[^|]*\|[^|]*\|ours$" "";
  "~^\|(?:GET|HEAD|OPTIONS)\|\|[^|]*\|[^|]*\|none$" "";
}

# A person who opened the address, and whom a page can be shown.
map "$websocket|$request_method|$http_sec_purpose$http_purpose|$http_sec_fetch_mode|$http_sec_fetch_dest|$http_accept" $page {
  default json;
  "~^\|GET\|\|navigate\|document\|" html;
  "~^\|GET\|\|\|\|.*text/html" html;
}

map "$upstream_status $upstream_cache_status" $new_refusal {
  volatile;
  default "";
  "401 MISS" 1;
}
{{- end }}
