package webhook

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/sandbox"
)

// The test binary is its own child for users' rules.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		os.Exit(compile.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// bombs are bodies of rules that want all memory or all time there is. text is a text of the
// object.
func bombs() map[string]string {
	doubled := "\ts0 := text\n"
	for i := range 15 {
		doubled += fmt.Sprintf("\ts%[2]d := concat(\"\", [s%[1]d, s%[1]d])\n\ts%[3]d := sprintf(\"%%s%%s\", [s%[2]d, s%[2]d])\n", 2*i, 2*i+1, 2*i+2)
	}
	return map[string]string{
		"a product of lists":         "\tcount([[a, b, text] | some a in numbers.range(1, 30000); some b in numbers.range(1, 30000)]) > 0\n",
		"a product as an object":     "\tcount({sprintf(\"%d-%d\", [a, b]): text | some a in numbers.range(1, 30000); some b in numbers.range(1, 30000)}) > 0\n",
		"a range":                    "\tcount(numbers.range(1, 1000000000)) > 0\n",
		"a text that is doubled":     doubled + "\tcount(s30) > 0\n",
		"a text in place of letters": "\tcount(replace(text, \"a\", text)) > 0\n",
		"the same by a pattern":      "\tcount(regex.replace(text, \"a\", text)) > 0\n",
		"all addresses":              "\tcount(net.cidr_expand(\"0.0.0.0/0\")) > 0\n",
		"a walk over walks":          "\tcount([[p, q, v, w] | walk(input, [p, v]); walk(input, [q, w])]) > 0\n\tcount([1 | some a in numbers.range(1, 1000000); some b in numbers.range(1, 1000000); a * b < 0]) == 1\n",
		"JSON of many lists":         "\tcount(json.unmarshal(concat(\"\", [\"[\", replace(text, \"a\", \"[[[]]],\"), \"[]]\"]))) > 0\n\tcount([[x, y] | some x in json.unmarshal(concat(\"\", [\"[\", replace(text, \"a\", \"[[[]]],\"), \"[]]\"])); some y in numbers.range(1, 100000)]) > 0\n",
		"a pattern of alternatives":  "\tsome a in numbers.range(1, 100000000)\n\tregex.match(concat(\"\", [\"(\", text, \"|\", sprintf(\"%d\", [a]), \"){1,9}$\"]), text)\n\ta < 0\n",
		"a glob of alternatives":     "\tsome a in numbers.range(1, 100000000)\n\tglob.match(concat(\"\", [\"{\", replace(text, \"a\", \"a*,\"), sprintf(\"%d\", [a]), \"}\"]), [], text)\n\ta < 0\n",
	}
}

// Whatever a rule does with memory, it is the question that it was about which is denied,
// with the rule's name; the webhook and the others' questions live on.
func TestAttackARuleTakesAllMemory(t *testing.T) {
	r := start(t)
	var rules []string
	i := 0
	which := map[string]string{}
	for name, body := range bombs() {
		i++
		which[name] = fmt.Sprint("b", i)
		rules = append(rules, fmt.Sprintf("package meshc.object.bomb%[1]d\n\nimport rego.v1\n\n# METADATA\n# custom: {id: bomb%[1]d, severity: deny}\nfindings contains {\"id\": \"bomb%[1]d\", \"path\": \"x\", \"msg\": \"found\"} if {\n\tinput.object.metadata.labels.bomb == \"b%[1]d\"\n\ttext := input.object.metadata.annotations.text\n\tcount(text) > 0\n%[2]s}\n", i, body))
	}
	rules = append(rules, "package meshc.object.fine\n\nimport rego.v1\n\n# METADATA\n# custom: {id: fine, severity: deny}\nfindings contains {\"id\": \"fine\", \"path\": \"x\", \"msg\": \"never\"} if input.object.metadata.labels.fine == \"no\"\n")
	r.publish(t, rules...)
	elsewhere := func(labels string) string {
		return strings.Replace(question("ConfigMap", "configmaps", `{"metadata":{"name":"web","labels":{`+labels+`}}}`), `"namespace":"shop"`, `"namespace":"elsewhere"`, 1)
	}
	for name := range bombs() {
		bomb := question("ConfigMap", "configmaps", `{"metadata":{"name":"web","labels":{"bomb":"`+which[name]+`"},"annotations":{"text":"`+strings.Repeat("a", 100_000)+`"}}}`)
		var named atomic.Int32
		stop := r.flood(maxHeld, func() {
			switch a, _, _ := r.ask(t, ValidatePath, bomb); {
			case a.Allowed || a.Result.Code != http.StatusTooManyRequests && (!strings.Contains(a.Result.Message, "MESH040") || !strings.Contains(a.Result.Message, `policy "meshc.object.bomb`)):
				t.Errorf("%s: %+v", name, a.Result)
			case a.Result.Code != http.StatusTooManyRequests && named.Add(1) == 1:
				t.Logf("%s: %.160s", name, a.Result.Message)
			}
		})
		judged, late := 0, 0
		r.answered(t, name+", meanwhile elsewhere", 5, func() bool {
			// Those who set off bombs, and those who ask here, leave processes to others.
			const left = maxWorkers - 2*maxHeld
			if w := r.workers.Load(); !w.room.TryAcquire(left) {
				t.Errorf("%s: there is no process for a third namespace", name)
			} else {
				w.room.Release(left)
			}
			if !r.neighbour(t, ValidatePath, elsewhere(`"a":"b"`)) {
				late++
				return false
			}
			judged++
			return true
		})
		r.answered(t, name+" is told", 1, func() bool { return named.Load() > 0 })
		stop()
		t.Logf("%d judged meanwhile, %d not in time", judged, late)
	}
	if a, _, _ := r.ask(t, ValidatePath, elsewhere(`"fine":"no"`)); a.Allowed || !strings.Contains(a.Result.Message, "[fine] never") {
		t.Errorf("the rules are no longer asked: %+v", a.Result)
	}
	if w := r.workers.Load(); len(w.idle) > maxWorkers {
		t.Errorf("%d workers", len(w.idle))
	}
}
