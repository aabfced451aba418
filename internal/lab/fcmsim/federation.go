package fcmsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
)

// exchangeGrant is the grant type of RFC 8693.
const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"

// audience is the audience of the lab's workload identity pool.
const audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/lab/providers/lab"

// External is how MakeExternal's account gets its access tokens.
type External struct {
	// Impersonate: the pool may only act as a service account.
	Impersonate bool
	// URL returns the subject's token; default: the token is in a file.
	URL string
}

// MakeExternal creates an account of workload identity federation that may push to the
// project. It writes the account's JSON file, as Google would issue it, and a file with
// the subject's token into dir. Subject serves its URL.
func (s *Server) MakeExternal(dir, project string, e External) (file, subjectFile string, err error) {
	token := "eyJ-subject-" + randomHex(16)
	leak.Secret(token)
	s.subjects.Store(token, project)
	s.subject.Store(&token)
	subjectFile = filepath.Join(dir, "subject.token")
	if err := os.WriteFile(subjectFile, []byte(token+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("cannot write subject's token: %w", err)
	}
	source := map[string]any{"file": subjectFile}
	if e.URL != "" {
		source = map[string]any{"url": e.URL, "headers": map[string]string{"Metadata": "true"},
			"format": map[string]string{"type": "json", "subject_token_field_name": "access_token"}}
	}
	contents := map[string]any{
		"type": "external_account", "audience": audience, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
		"token_url": s.URL() + "/sts/v1/token", "credential_source": source,
	}
	if e.Impersonate {
		contents["service_account_impersonation_url"] = s.impersonation(project)
	}
	file = filepath.Join(dir, project+"-external.json")
	return file, subjectFile, writeAccount(file, contents)
}

// MakeImpersonated creates a service account that may act as the project's, and writes
// its JSON file into dir.
func (s *Server) MakeImpersonated(dir, project string) (file string, err error) {
	key, err := s.MakeAccount(dir, "source-of-"+project)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(key)
	if err != nil {
		return "", fmt.Errorf("cannot read account: %w", err)
	}
	file = filepath.Join(dir, project+"-impersonated.json")
	return file, writeAccount(file, map[string]any{
		"type": "impersonated_service_account", "service_account_impersonation_url": s.impersonation(project),
		"source_credentials": json.RawMessage(text), "delegates": []string{},
	})
}

func writeAccount(file string, contents map[string]any) error {
	text, err := json.MarshalIndent(contents, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode account: %w", err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("cannot write account: %w", err)
	}
	return nil
}

func (s *Server) impersonation(project string) string {
	return s.URL() + "/v1/projects/-/serviceAccounts/push@" + project + ":generateAccessToken"
}

// exchange serves the Security Token Service.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) {
	b, _ := s.oauth.Next()
	if b.Status != 0 && b.Status != http.StatusOK {
		writeJSON(w, b.Status, map[string]string{"error": b.Code, "error_description": "on demand"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	project, ok := s.subjects.Load(r.PostFormValue("subject_token"))
	scopes := strings.Fields(r.PostFormValue("scope"))
	switch {
	case r.PostFormValue("grant_type") != exchangeGrant || r.PostFormValue("audience") != audience:
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
	case !ok:
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant",
			"error_description": "the subject token " + r.PostFormValue("subject_token") + " is not known"})
	case slices.Contains(scopes, scope):
		s.give(w, project.(string))
	case slices.Contains(scopes, wideScope): // to act as somebody
		s.give(w, "act-as-"+project.(string))
	default:
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_scope"})
	}
}

// give answers with a new access token for the project.
func (s *Server) give(w http.ResponseWriter, project string) {
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": s.grant(project), "token_type": "Bearer", "expires_in": int(s.options.TokenLifetime / time.Second),
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
	})
}

func (s *Server) grant(project string) string {
	s.grants.Add(1)
	text := "ya29." + randomHex(32)
	leak.Secret(text)
	s.access.Store(text, grant{project, time.Now().Add(s.options.TokenLifetime)})
	return text
}

// impersonate serves generateAccessToken of the IAM Service Account Credentials API.
func (s *Server) impersonate(w http.ResponseWriter, r *http.Request) {
	project, ok := strings.CutSuffix(r.PathValue("account"), ":generateAccessToken")
	project = strings.TrimPrefix(project, "push@")
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	v, known := s.access.Load(text)
	if !ok || !known || v.(grant).project != "act-as-"+project && v.(grant).project != "source-of-"+project {
		writeJSON(w, http.StatusForbidden, map[string]any{"error": map[string]any{
			"code": http.StatusForbidden, "status": "PERMISSION_DENIED", "message": "Permission denied for " + text}})
		return
	}
	var request struct {
		Scope []string `json:"scope"`
	}
	if json.NewDecoder(r.Body).Decode(&request) != nil || !slices.Contains(request.Scope, scope) {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"status": "INVALID_ARGUMENT"}})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"accessToken": s.grant(project), "expireTime": time.Now().Add(s.options.TokenLifetime).UTC().Format(time.RFC3339),
	})
}

// Metadata returns the metadata server of a Google Cloud machine whose account may push to
// the project, for plain HTTP.
func (s *Server) Metadata(project string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /computeMetadata/v1/instance/service-accounts/default/token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || !slices.Contains(strings.Split(r.FormValue("scopes"), ","), scope) {
			http.Error(w, "not for you", http.StatusForbidden)
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		s.give(w, project)
	})
	return mux
}

// Subject returns the handler from which another cloud's machine gets the subject's token,
// for plain HTTP.
func (s *Server) Subject() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" {
			http.Error(w, "not for you", http.StatusForbidden)
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"access_token": *s.subject.Load()})
	})
}
