{{/* The paths of every editor's host that are ours. */}}
{{- define "platform.router.ownPaths" -}}
{{- $pages := "/_session/internal/pages" -}}
{{- range list "login" "logout" "wait" "progress" }}
location = /_session/{{ . }} {
  if ($cross_site) {
    return 403;
  }
  error_page 403 {{ $pages }}/refused.$page;
  error_page 500 502 503 504 =503 {{ $pages }}/unavailable.$page;
  {{- if eq . "login" }}
  # Its lines would name the code, which still works if no manager was reached.
  error_log stderr crit;
  {{- end }}
  proxy_pass http://manager/router/{{ . }};
{{ include "platform.router.toManager" $ | indent 2 }}
  {{- if eq . "progress" }}
  proxy_buffering off;
  {{- end }}
  proxy_read_timeout 60s;
}
{{ end }}
location = /_session/page.css {
  alias /etc/sessionctl/router/page.css;
  default_type text/css;
  add_header Cache-Control "max-age=3600";
}

location = /_session {
  return 404;
}

location ^~ /_session/ {
  return 404;
}

location ^~ {{ $pages }}/ {
  internal;
  alias /etc/sessionctl/router/;
  types {
    "text/html; charset=utf-8" html;
    application/problem+json json;
  }
  # Whatever the request was, nothing of it is to be kept, or to be sent in pieces.
  max_ranges 0;
  if_modified_since off;
  etag off;
  add_header Cache-Control "no-store" always;
  add_header Content-Security-Policy "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'" always;
  add_header X-Content-Type-Options "nosniff" always;
  add_header Referrer-Policy "no-referrer" always;
}
{{- with .Values.config.editor.loginUrl }}

location = /_session/internal/login.html {
  internal;
  add_header Cache-Control "no-store" always;
  add_header Referrer-Policy "no-referrer" always;
  add_header Set-Cookie "__Host-session-state=$login_state; Secure; HttpOnly; Path=/; SameSite=Lax; Max-Age=600" always;
  return 302 "{{ . }}?session=$uuid&state=$login_state";
}

location = /_session/internal/login.json {
  internal;
  default_type application/problem+json;
  add_header Cache-Control "no-store" always;
  return 401 '{{ $.Files.Get "files/router/unauthenticated.json" | trim }}';
}
{{- end }}
{{- end }}
