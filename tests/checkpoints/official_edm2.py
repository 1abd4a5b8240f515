"""Stand-ins for the packages that read and write EDM2's pickles, in our own words.

They write files of the structure measured on the official code (names, order, arguments), and like
the official loader they execute the source text in a file. Networks compute with ``mclr``'s own.
They run in another process, so that no test process can import them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PERSISTENCE = """
import copy, sys, types

def persistent_class(cls):
    class Kept(cls):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)

        def __reduce__(self):
            module = sys.modules[cls.__module__]
            text = getattr(module, "TEXT", None) or open(module.__file__).read()
            meta = dict(type="class", version=6, module_src=text)
            meta.update(class_name=cls.__name__, state=dict(self.__dict__))
            return _reconstruct_persistent_obj, (meta,)

    Kept.__name__ = cls.__name__
    return Kept

def _reconstruct_persistent_obj(meta):
    assert (meta["type"], meta["version"]) == ("class", 6)
    name = f"kept_{abs(hash(meta['module_src']))}"
    if name not in sys.modules:
        module = sys.modules[name] = types.ModuleType(name)
        module.TEXT = meta["module_src"]
        exec(meta["module_src"], module.__dict__)
    cls = getattr(sys.modules[name], meta["class_name"])
    made = cls.__new__(cls)
    made.__dict__.update(meta["state"])
    return made
"""

UTIL = '''
class EasyDict(dict):
    """Keys are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name)
'''

NETWORKS = '''
import collections, os
import torch
from torch import nn
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond as Ours
from torch_utils.persistence import persistent_class

OPTIONAL = ("conv_skip", "attn_qkv", "attn_proj")

def copied(ours):
    """The same tree of modules, of this file's classes."""
    if isinstance(ours, nn.ModuleDict):
        return nn.ModuleDict({name: copied(child) for name, child in ours.items()})
    made = globals()[type(ours).__name__]()
    take(made, ours)
    return made

def take(made, ours):
    for name, value in ours._parameters.items():
        made.register_parameter(name, nn.Parameter(value.detach().clone()))
    for name, value in ours._buffers.items():
        made.register_buffer(name, value.clone())
    for name, child in ours._modules.items():
        made.add_module(name, copied(child))
    if hasattr(ours, "conv_res0"):
        for name in OPTIONAL:
            if getattr(ours, name) is None:
                made.add_module(name, None)
        for name in ("num_heads", "out_channels", "resample_mode"):
            setattr(made, name, getattr(ours, name))
        for name in ("dropout", "res_balance", "attn_balance", "clip_act"):
            setattr(made, name, getattr(ours.config, name))
        made.resample_filter = list(ours.config.resample_filter)
    if hasattr(ours, "emb_noise"):
        made.label_balance = ours.config.label_balance
        made.concat_balance = ours.config.concat_balance

@persistent_class
class MPFourier(nn.Module):
    pass

@persistent_class
class MPConv(nn.Module):
    pass

@persistent_class
class Block(nn.Module):
    pass

@persistent_class
class UNet(nn.Module):
    pass

@persistent_class
class Precond(nn.Module):
    def __init__(self, img_resolution, img_channels, label_dim, use_fp16=True,
                 sigma_data=0.5, logvar_channels=128, **unet):
        super().__init__()
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.label_dim, self.use_fp16, self.sigma_data = label_dim, use_fp16, sigma_data
        self.sizes = dict(img_resolution=img_resolution, img_channels=img_channels,
                          label_dim=label_dim, sigma_data=sigma_data,
                          logvar_channels=logvar_channels, **unet)
        take(self, Ours(Edm2Network(**self.sizes)))

    def forward(self, x, sigma, labels=None):
        ours = Ours(Edm2Network(**self.sizes)).to(self.unet.out_gain.dtype).eval()
        ours.load_state_dict(self.state_dict())
        return ours(x, sigma, labels)
'''

TRAINING = """
import numpy as np
from torch_utils.persistence import persistent_class

@persistent_class
class StandardRGBEncoder:
    pass

@persistent_class
class StabilityVAEEncoder:
    def __init__(self):
        self.vae_name, self.batch_size, self._vae = "stabilityai/sd-vae-ft-mse", 8, None
        self.scale = np.float32(0.5) / np.float32([4.17, 4.62, 3.71, 3.28])
        self.bias = np.float32(0) - np.float32([5.81, 3.25, 0.12, -2.15]) * self.scale

@persistent_class
class EDM2Loss:
    def __init__(self, P_mean=-0.4, P_std=1.0, sigma_data=0.5):
        self.P_mean, self.P_std, self.sigma_data = P_mean, P_std, sigma_data
"""

# argv: weights.safetensors, out.pkl, encoder class, dtype, "ordered" or ""
WRITE = """
import collections, json, pickle, sys
import torch
from safetensors import safe_open
from safetensors.torch import load_file
import dnnlib.util, training.networks_edm2 as networks, training.others as others

weights, out, encoder, dtype, ordered = sys.argv[1:]
with safe_open(weights, "pt") as file:
    sizes = json.loads(file.metadata()["config"])
sizes.pop("class_name")
net = networks.Precond(**sizes)
net.load_state_dict(load_file(weights))
net = net.eval().requires_grad_(False).to(getattr(torch, dtype))
if ordered:  # as older torch had it
    for module in net.modules():
        for table in ("_parameters", "_buffers", "_modules"):
            module.__dict__[table] = collections.OrderedDict(module.__dict__[table])
data = dnnlib.util.EasyDict(encoder=getattr(others, encoder)())
data["dataset_kwargs"] = dnnlib.util.EasyDict(path="x.zip", use_labels=True, max_size=None)
data["loss_fn"] = others.EDM2Loss(P_mean=-0.8, P_std=1.6)
data["ema"] = net
with open(out, "wb") as stream:
    pickle.dump(data, stream, protocol=4)
"""

# argv: in.pkl, inputs.npz, out.safetensors: state dict as stored, and the float32 output
READ = """
import pickle, sys
import numpy as np
import torch
from safetensors.torch import save_file

with open(sys.argv[1], "rb") as stream:
    data = pickle.load(stream)
assert type(data).__module__ == "dnnlib.util"
net = data["ema"]
tensors = dict(net.state_dict())
with np.load(sys.argv[2]) as inputs:
    x, sigma, labels = (torch.from_numpy(inputs[key]) for key in ("x", "sigma", "labels"))
tensors["D"] = net.float()(x, sigma, labels)
print(type(data["encoder"]).__name__, type(data["loss_fn"]).__name__, data["loss_fn"].P_mean)
save_file(tensors, sys.argv[3])
"""


class Official:
    """The stand-in packages in a folder, and programs that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = {
            "torch_utils/persistence.py": PERSISTENCE,
            "dnnlib/util.py": UTIL,
            "training/networks_edm2.py": NETWORKS,
            "training/others.py": TRAINING,
        }
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(content)

    def _run(self, program: str, *arguments: object) -> str:
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={"PYTHONPATH": f"{self.folder}:{root}", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def write(
        self,
        weights: Path,
        out: Path,
        encoder: str = "StandardRGBEncoder",
        dtype: str = "float16",
        ordered: bool = False,
    ) -> Path:
        """Save a network with the weights and ``config`` of a golden file."""
        self._run(WRITE, weights, out, encoder, dtype, "ordered" if ordered else "")
        return out

    def read(self, pickled: Path, inputs: Path, out: Path) -> str:
        """Load with the official classes; state dict and output D go to ``out``."""
        return self._run(READ, pickled, inputs, out)
