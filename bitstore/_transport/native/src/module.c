/* `bitstore._transport.native._core`, which `_core.pyi` documents. */
#include "python.h"

#include <openssl/crypto.h>

#define API 2 /* what `bitstore._transport.native` expects; changes with anything that it calls */

PyTypeObject *trust_type, *origin_type, *sheet_type;

PyObject *type_allocate(PyTypeObject *type) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

void type_deallocate(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none_)) {
    return PyUnicode_FromString(OpenSSL_version(OPENSSL_VERSION));
}

static PyMethodDef functions[] = {{"version", version, METH_NOARGS, NULL},
                                  {"memory", memory_new, METH_VARARGS, NULL},
                                  {"copy", memory_copy, METH_VARARGS, NULL},
                                  {NULL, NULL, 0, NULL}};

static int add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **kept) {
    PyObject *type = PyType_FromSpec(spec);
    if (!type)
        return -1;
    if (kept) {
        Py_INCREF(type);
        *kept = (PyTypeObject *)type;
    }
    if (!PyModule_AddObject(module, name, type))
        return 0;
    Py_DECREF(type);
    return -1;
}

static int fill(PyObject *module) {
    if (add_type(module, &trust_spec, "Trust", &trust_type) || add_type(module, &origin_spec, "Origin", &origin_type) ||
        add_type(module, &sheet_spec, "Sheet", &sheet_type) || add_type(module, &group_spec, "Group", NULL))
        return -1;
    return PyModule_AddIntConstant(module, "API", API);
}

/* A free-threaded Python turns the GIL on with this module, as it does with pycurl: a group relies on it where its owner
   and the end of an origin meet. */
static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill},
                                   {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", NULL, 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
