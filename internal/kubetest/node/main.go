package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Main is the node. It returns the exit code when its parent has gone, and must be
// followed by os.Exit.
func Main() int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := serve(context.Background(), log); err != nil {
		log.Error("the node ends", "error", err)
		return 1
	}
	return 0
}

// kubelet runs the pods of the node. It is the whole node process.
type kubelet struct {
	setup
	log    *slog.Logger
	client kubernetes.Interface

	mu   sync.Mutex
	pods map[types.UID]*pod
	used map[int]bool // numbers of pods
	next int          // where to look for a number: the longest unused comes next
}

func serve(ctx context.Context, log *slog.Logger) error {
	k := &kubelet{log: log, pods: map[types.UID]*pod{}, used: map[int]bool{}}
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&k.setup); err != nil {
		return fmt.Errorf("a node is started by its parent only: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := k.prepare(ctx); err != nil {
		return err
	}
	if err := k.join(ctx); err != nil {
		return err
	}
	if _, err := io.WriteString(os.Stdout, readyWord); err != nil {
		return err
	}
	// The end of stdin is the parent's.
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// prepare makes the process a machine of its own. What is mounted here is nobody else's,
// and /proc shows the processes of this namespace.
func (k *kubelet) prepare(ctx context.Context) error {
	for _, argv := range [][]string{{"mount", "--make-rprivate", "/"}, {"mount", "-t", "proc", "proc", "/proc"}} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", argv, err, out)
		}
	}
	for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("letting the node forward: %w", err)
		}
	}
	return k.Network.plugged(ctx)
}

// join makes the node part of the cluster.
func (k *kubelet) join(ctx context.Context) error {
	// The certificate is for the names that pods use, the address is the machine's.
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: k.API, BearerToken: k.Token, TLSClientConfig: rest.TLSClientConfig{CAData: k.CA, ServerName: "kubernetes.default.svc"},
		QPS: -1, UserAgent: "kubetest-node", WarningHandler: rest.NoWarnings{},
	})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	k.client = client
	if err := k.serveControl(ctx); err != nil {
		return err
	}
	if err := k.serveServices(ctx); err != nil {
		return err
	}
	if err := k.register(ctx); err != nil {
		return err
	}
	return k.watchPods(ctx)
}

func (k *kubelet) register(ctx context.Context) error {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: k.Name, Labels: map[string]string{corev1.LabelHostname: k.Name, corev1.LabelOSStable: "linux"}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: k.Network.v4(nodeHost).String()}, {Type: corev1.NodeInternalIP, Address: k.Network.v6(nodeHost).String()},
				{Type: corev1.NodeHostName, Address: k.Name},
			},
		},
	}
	// A new Node's status is taken with it.
	_, err := k.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("registering the node: %w", err)
	}
	return nil
}

// watchPods runs the node's pods, and takes those that are nobody's: no scheduler runs.
func (k *kubelet) watchPods(ctx context.Context) error {
	mine := k.podInformer(k.Name, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.see(ctx, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { k.see(ctx, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			k.forget(o.(*corev1.Pod))
		},
	})
	free := k.podInformer("", cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { k.take(ctx, o.(*corev1.Pod)) }})
	for _, i := range []cache.SharedIndexInformer{mine, free} {
		go i.RunWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), i.HasSynced) {
			return errors.New("the watch of pods did not begin")
		}
	}
	return nil
}

func (k *kubelet) podInformer(node string, handler cache.ResourceEventHandler) cache.SharedIndexInformer {
	i := informers.NewSharedInformerFactoryWithOptions(k.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
	})).Core().V1().Pods().Informer()
	_, _ = i.AddEventHandler(handler) // fails only for an informer that has stopped
	return i
}

// take binds a pod to this node, as a scheduler does.
func (k *kubelet) take(ctx context.Context, p *corev1.Pod) {
	if p.DeletionTimestamp != nil || len(p.Spec.SchedulingGates) > 0 {
		return
	}
	err := k.client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, UID: p.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: k.Name},
	}, metav1.CreateOptions{})
	if err != nil {
		k.log.Warn("pod is not bound", "pod", p.Name, "error", err)
	}
}

// see starts a pod that is new and ends one that is being deleted.
func (k *kubelet) see(ctx context.Context, object *corev1.Pod) {
	k.mu.Lock()
	p := k.pods[object.UID]
	if p == nil {
		if len(k.used) > lastPod-firstPod {
			k.mu.Unlock()
			k.log.Error("no address is left", "pod", object.Name)
			return
		}
		number := k.number()
		p = newPod(k, object, number)
		k.pods[object.UID] = p
		go p.run(ctx)
	}
	k.mu.Unlock()
	p.update(object)
}

// number takes a free number, of which there is one.
func (k *kubelet) number() int {
	for {
		number := firstPod + k.next%(lastPod-firstPod+1)
		k.next++
		if !k.used[number] {
			k.used[number] = true
			return number
		}
	}
}

// forget ends a pod whose object is gone: nobody waits for it.
func (k *kubelet) forget(object *corev1.Pod) {
	k.mu.Lock()
	p := k.pods[object.UID]
	k.mu.Unlock()
	if p != nil {
		p.end(0)
	}
}

// free is called by a pod that has ended.
func (k *kubelet) free(p *pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, p.uid)
	delete(k.used, p.number)
}

// sleep waits, but not beyond the context.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
