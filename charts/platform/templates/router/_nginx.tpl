{{/*
The whole configuration of the router. Nothing in it belongs to one session: the host of a request names the session, its
Service and the cookie that opens it.

Our own paths begin with /_session; those below /_session/internal exist for nginx alone.
*/}}
{{- define "platform.router.conf" -}}
pid /tmp/nginx.pid;
error_log stderr {{ .Values.router.errorLog }};
daemon off;
worker_processes {{ int .Values.router.workers }};
worker_rlimit_nofile {{ add (mul 2 (int .Values.router.workerConnections)) 64 }};
worker_shutdown_timeout {{ include "platform.seconds" .Values.router.drain }}s;

events {
  worker_connections {{ int .Values.router.workerConnections }};
}

http {
  default_type application/octet-stream;
  server_tokens off;
  client_body_temp_path /tmp/client;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  scgi_temp_path /tmp/scgi;
  uwsgi_temp_path /tmp/uwsgi;
  large_client_header_buffers 4 16k;
  client_header_timeout 15s;
  {{- if .Values.router.accessLog }}
  # No query, which may carry codes and tokens, and no cookie.
  log_format requests escape=json
    '{"time":"$time_iso8601","session":"$uuid","method":"$request_method","path":"$uri","status":$status,'
    '"bytes":$bytes_sent,"seconds":$request_time,"upstream":"$upstream_status","request_id":"$request_id"}';
  access_log /dev/stdout requests;
  {{- else }}
  access_log off;
  {{- end }}

{{ include "platform.router.maps" . | indent 2 }}

  resolver {{ .Values.router.resolver | default (printf "kube-dns.kube-system.svc.%s" .Values.router.clusterDomain) }} valid=5s{{ if not .Values.router.ipv6 }} ipv6=off{{ end }};
  resolver_timeout 2s;

  # The same Service twice: what one manager does not answer, perhaps another does.
  upstream manager {
    server sessionctl-manager.{{ .Release.Namespace }}.svc.{{ .Values.router.clusterDomain }}:{{ int .Values.manager.service.port }} max_fails=0;
    server sessionctl-manager.{{ .Release.Namespace }}.svc.{{ .Values.router.clusterDomain }}:{{ int .Values.manager.service.port }} max_fails=0;
    keepalive 32;
    keepalive_timeout 20s;
  }

  # What managers said of a cookie: asked again after a second, used for longer only while none of them answers.
  # Its keys hold cookies, so it lies in memory.
  proxy_cache_path /tmp/cache levels=1:2 use_temp_path=off keys_zone=answers:16m max_size=128m inactive=12h;
  open_file_cache max=20000 inactive=60s;
  open_file_cache_valid 60s;

  server {
    listen 8080 default_server;
    default_type text/plain;
    return 404 "There is no session at this address.\n";
  }

  server {
    listen 8081 default_server;
    access_log off;
    location = /healthz {
      default_type text/plain;
      return 200 "ok\n";
    }
    location / {
      return 404;
    }
  }

  server {
    listen 8080;
    server_name "~^vs-code-(?<uuid>[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}){{ include "platform.hostname" . | printf ".%s" | replace "." "\\." }}$";

{{ include "platform.router.editor" . | indent 4 }}

{{ include "platform.router.ownPaths" . | indent 4 }}
  }
}
{{ end }}

{{/* Whatever is not ours is the editor's. */}}
{{- define "platform.router.editor" -}}
client_max_body_size 0;

location / {
  if ($cross_site) {
    return 403;
  }
  # Without a cookie no manager is asked: what nobody is signed in for costs nothing but this.
  if ($session_cookie = "") {
    return 401;
  }
  auth_request /_session/internal/auth;
  error_page 403 /_session/internal/pages/refused.$page;
  {{- if .Values.config.editor.loginUrl }}
  error_page 401 = /_session/internal/login.$page;
  {{- else }}
  error_page 401 /_session/internal/pages/unauthenticated.$page;
  {{- end }}
  # No manager could say, now or before.
  error_page 500 =503 /_session/internal/pages/unavailable.$page;
  # Only those that nginx makes itself: the pod's own go through. And from there on to a page when no manager answers.
  error_page 502 503 504 = @asleep;
  recursive_error_pages on;

  proxy_pass http://user-$uuid.{{ .Values.sessionsNamespace.name }}.svc.{{ .Values.router.clusterDomain }}:8080;
  proxy_http_version 1.1;
  proxy_next_upstream off;
  proxy_connect_timeout 2s;
  proxy_read_timeout 1h;
  proxy_send_timeout 1h;
  # Finds dead nodes below a socket on which nobody says anything.
  proxy_socket_keepalive on;
  proxy_buffering off;
  proxy_request_buffering off;
  proxy_buffer_size 16k;
  proxy_buffers 4 16k;
  proxy_busy_buffers_size 32k;
  # Whatever runs in the pod is not trusted: it must not send nginx to other paths, or change how it works.
  proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
  proxy_cookie_domain ~. $session_hostname;
  add_header Content-Security-Policy "frame-ancestors 'self'" always;

  proxy_set_header Host $session_host;
  proxy_set_header Upgrade $websocket;
  proxy_set_header Connection $connection_header;
  proxy_set_header X-Forwarded-Host $session_host;
  proxy_set_header X-Forwarded-Proto https;
  proxy_set_header Cookie $cookies_for_pod;
  proxy_set_header Referer $referer_for_pod;
  {{- range list "Authorization" "Proxy-Authorization" "X-API-Key" "Forwarded" "X-Forwarded-For" "X-Forwarded-Port" "X-Forwarded-Prefix" "X-Forwarded-Server" "X-Real-IP" "X-Original-URL" "X-Rewrite-URL" }}
  proxy_set_header {{ . }} "";
  {{- end }}
  {{- range list "Id" "Host" "Cookie" "State" "Method" "Uri" }}
  proxy_set_header X-Session-{{ . }} "";
  {{- end }}
}

location = /_session/internal/auth {
  internal;
  proxy_pass http://manager/router/auth;
{{ include "platform.router.toManager" . | indent 2 }}
  proxy_read_timeout 3s;
  proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires X-Accel-Redirect;
  proxy_cache answers;
  proxy_cache_key "$uuid $session_cookie";
  proxy_cache_valid 204 401 1s;
  # A refusal is kept where it takes the place of a permission, so that a revoked cookie does not come back with an
  # outage. Others are not: anybody can make up cookies.
  proxy_no_cache $new_refusal;
  proxy_cache_use_stale error timeout invalid_header http_500 http_502 http_503 http_504;
}

location @asleep {
  rewrite ^ /router/asleep? break;
  proxy_pass http://manager;
  # A body was meant for the editor.
  proxy_method GET;
{{ include "platform.router.toManager" . | indent 2 }}
  error_page 500 502 503 504 =503 /_session/internal/pages/unavailable.$page;
}
{{- end }}

{{/* What a request to a manager carries: nothing that the client chose, but for what tells navigations apart. */}}
{{- define "platform.router.toManager" -}}
proxy_http_version 1.1;
proxy_connect_timeout 1s;
proxy_next_upstream error timeout;
proxy_next_upstream_tries 2;
proxy_next_upstream_timeout 2s;
proxy_pass_request_body off;
proxy_pass_request_headers off;
proxy_set_header Host sessionctl-manager;
proxy_set_header Connection "";
proxy_set_header Content-Length "";
proxy_set_header X-Request-Id $request_id;
proxy_set_header X-Session-Id $uuid;
proxy_set_header X-Session-Host $session_host;
proxy_set_header X-Session-Cookie $session_cookie;
proxy_set_header X-Session-State $session_state;
proxy_set_header X-Session-Method $request_method;
proxy_set_header X-Session-Uri $request_uri;
proxy_set_header Sec-Fetch-Mode $fetch_mode;
{{- range list "Accept" "Purpose" "Sec-Purpose" "Sec-Fetch-Dest" "Sec-Fetch-Site" "Sec-Fetch-User" }}
proxy_set_header {{ . }} $http_{{ . | lower | replace "-" "_" }};
{{- end }}
{{- end }}
